package health

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// protocol is what a server of one kind says first.
type protocol struct {
	port string // unless the check names one
	say  []byte // before the server speaks, or nil
	// hear reads the server's first words. They are returned for expect, and
	// the error says why they are not those of a server that is well.
	hear func(*bufio.Reader) ([]byte, error)
}

// protocols are those whose greeting a banner check knows.
func protocols() map[string]protocol {
	return map[string]protocol{
		"smtp":     {port: "25", hear: line("220")},
		"ftp":      {port: "21", hear: line("220")},
		"pop3":     {port: "110", hear: line("+OK")},
		"imap":     {port: "143", hear: line("* OK", "* PREAUTH")},
		"ssh":      {port: "22", hear: line("SSH-")},
		"redis":    {port: "6379", say: []byte("PING\r\n"), hear: line("+PONG", "-NOAUTH")},
		"mysql":    {port: "3306", hear: mysqlGreeting},
		"postgres": {port: "5432", say: postgresStartup(), hear: postgresAnswer},
	}
}

// Protocols names those whose greeting a banner check knows, sorted.
func Protocols() []string { return slices.Sorted(maps.Keys(protocols())) }

// bannerProbe asks whether a server greets as those of its kind do.
func bannerProbe(p protocol, address string, expect expectation) probe {
	return func(ctx context.Context) error {
		conn, err := dial(ctx, address)
		if err != nil {
			return err
		}
		defer conn.Close()
		if len(p.say) > 0 {
			if _, err := conn.Write(p.say); err != nil {
				return inTime(ctx, err)
			}
		}
		limited := &io.LimitedReader{R: conn, N: maxGreeting}
		words, err := p.hear(bufio.NewReader(limited))
		if err != nil && limited.N == 0 {
			return fmt.Errorf("the greeting %w %d KiB", errTooLong, maxGreeting>>10)
		}
		if err != nil {
			return inTime(ctx, err)
		}
		return expect.in(words, "the greeting")
	}
}

// line expects one line that begins with one of the words.
func line(words ...string) func(*bufio.Reader) ([]byte, error) {
	return func(r *bufio.Reader) ([]byte, error) {
		text, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		text = bytes.TrimRight(text, "\r\n")
		for _, word := range words {
			if bytes.HasPrefix(text, []byte(word)) {
				return text, nil
			}
		}
		return nil, fmt.Errorf("greets with %q, not with %s", shorten(string(text)), strings.Join(words, " or "))
	}
}

// mysqlGreeting reads the packet that a MySQL or MariaDB server begins with: a
// length of 3 bytes, a number, and the protocol's version, or an error.
func mysqlGreeting(r *bufio.Reader) ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := int(header[0]) | int(header[1])<<8 | int(header[2])<<16
	if length < 3 || length > maxGreeting-len(header) {
		return nil, errors.New("greets as no MySQL server does")
	}
	packet := make([]byte, length)
	if _, err := io.ReadFull(r, packet); err != nil {
		return nil, err
	}
	switch packet[0] {
	case 9, 10:
		version, _, found := bytes.Cut(packet[1:], []byte{0})
		if !found {
			return nil, errors.New("greets as no MySQL server does")
		}
		return version, nil
	case 0xff:
		return nil, fmt.Errorf("refuses: error %d: %s", binary.LittleEndian.Uint16(packet[1:3]), shorten(string(packet[3:])))
	}
	return nil, errors.New("greets as no MySQL server does")
}

// postgresStartup is the message that a client begins with. PostgreSQL says
// nothing by itself. pg_isready does the same.
func postgresStartup() []byte {
	const version = 3 << 16
	words := "user\x00earshot\x00database\x00postgres\x00\x00"
	message := binary.BigEndian.AppendUint32(nil, uint32(8+len(words)))
	message = binary.BigEndian.AppendUint32(message, version)
	return append(message, words...)
}

// postgresAnswer reads the answer: a request to log in, or an error. Errors
// about who asks come from a server that is well; those that say that nobody
// can be served do not.
func postgresAnswer(r *bufio.Reader) ([]byte, error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := int64(binary.BigEndian.Uint32(header[1:])) - 4
	kind := header[0]
	if (kind != 'R' && kind != 'E') || length < 4 || length > maxGreeting-int64(len(header)) {
		return nil, errors.New("answers as no PostgreSQL server does")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if kind == 'R' {
		return body, nil
	}
	var code, text string
	for field := range bytes.SplitSeq(body, []byte{0}) {
		switch {
		case len(field) == 0:
		case field[0] == 'C':
			code = string(field[1:])
		case field[0] == 'M':
			text = string(field[1:])
		}
	}
	switch {
	case code == "":
		return nil, errors.New("answers as no PostgreSQL server does")
	// Cannot connect now, too many connections, and the other lacks of resources.
	case strings.HasPrefix(code, "57P"), strings.HasPrefix(code, "53"):
		return nil, fmt.Errorf("refuses: %s: %s", code, shorten(text))
	}
	return body, nil
}
