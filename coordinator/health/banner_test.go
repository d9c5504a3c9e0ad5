package health

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// mysqlPacket is a packet as MySQL frames them.
func mysqlPacket(body string) string {
	n := len(body)
	return string([]byte{byte(n), byte(n >> 8), byte(n >> 16), 0}) + body
}

// postgresMessage is a message as PostgreSQL frames them.
func postgresMessage(kind byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))) + body
}

func postgresError(code string) string {
	return postgresMessage('E', "SFATAL\x00VFATAL\x00C"+code+"\x00Mwords for people\x00\x00")
}

// answersTo speaks only after a client that says what it should.
func answersTo(question, answer string) func(net.Conn) {
	return func(conn net.Conn) {
		got := make([]byte, len(question))
		if _, err := io.ReadFull(conn, got); err == nil && string(got) == question {
			_, _ = io.WriteString(conn, answer)
			awaitClose(conn)
		}
	}
}

func TestGreetings(t *testing.T) {
	startup := string(postgresStartup())
	for _, tt := range []struct {
		protocol string
		server   func(net.Conn)
		want     string
	}{
		{"smtp", stops("220 mail.example ESMTP Postfix\r\n"), ""},
		{"smtp", stops("220-mail.example ESMTP Exim\r\n220 go on\r\n"), ""},
		{"smtp", stops("421 too busy\r\n"), `greets with "421 too busy"`},
		{"smtp", says("554 no service\r\n"), "554"},
		{"ftp", stops("220 ready\r\n"), ""},
		{"pop3", stops("+OK Dovecot ready.\r\n"), ""},
		{"pop3", stops("-ERR no\r\n"), "-ERR"},
		{"imap", stops("* OK [CAPABILITY IMAP4rev1] Dovecot ready.\r\n"), ""},
		{"imap", stops("* PREAUTH welcome\r\n"), ""},
		{"imap", stops("* BYE too many\r\n"), "BYE"},
		{"ssh", stops("SSH-2.0-OpenSSH_9.2\r\n"), ""},
		{"redis", answersTo("PING\r\n", "+PONG\r\n"), ""},
		{"redis", answersTo("PING\r\n", "-NOAUTH Authentication required.\r\n"), ""},
		{"redis", answersTo("PING\r\n", "-LOADING Redis is loading the dataset in memory\r\n"), "LOADING"},
		{"mysql", stops(mysqlPacket("\x0a8.0.36\x00abcdefgh")), ""},
		{"mysql", stops(mysqlPacket("\xff\x10\x04Too many connections")), "error 1040: Too many connections"},
		{"mysql", stops(mysqlPacket("what else")), "as no MySQL server does"},
		{"mysql", stops("HTTP/1.1 400 Bad Request\r\n\r\n"), "as no MySQL server does"},
		{"postgres", answersTo(startup, postgresMessage('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00")), ""},
		{"postgres", answersTo(startup, postgresError("28000")), ""},
		{"postgres", answersTo(startup, postgresError("57P03")), "57P03: words for people"},
		{"postgres", answersTo(startup, postgresError("53300")), "53300"},
		{"postgres", answersTo(startup, "HTTP/1.1 400 Bad Request\r\n\r\n"), "as no PostgreSQL server does"},
		{"postgres", answersTo(startup, postgresMessage('E', "garbage")), "as no PostgreSQL server does"},
	} {
		spec := Spec{Kind: Banner, Target: tt.protocol, Address: listen(t, tt.server)}
		if tt.want == "" {
			judges(t, spec, "")
			continue
		}
		judges(t, spec, tt.want)
	}
}

// Servers of every kind can misbehave in the same ways.
func TestGreetingsThatAreNone(t *testing.T) {
	for _, protocol := range Protocols() {
		for name, tt := range map[string]struct {
			address string
			want    string
		}{
			"refuses":        {refusing(t), "connection refused"},
			"hangs":          {listen(t, hangs), "no complete answer in time"},
			"closes at once": {listen(t, func(net.Conn) {}), ""},
			"resets":         {listen(t, resets), ""},
			"garbage":        {listen(t, says("\x00\x01\x02\x03\xff\xfe\n\n")), ""},
			"stops half-way": {listen(t, stops("2")), "no complete answer in time"},
			"sends for ever": {listen(t, endless("", "x")), ""},
			"zeroes":         {listen(t, endless("", "\x00")), ""},
		} {
			t.Run(protocol+" "+name, func(t *testing.T) {
				spec := Spec{Kind: Banner, Target: protocol, Address: tt.address}
				if tt.want != "" {
					judges(t, short(spec), tt.want)
				} else if once(t, spec) == "" {
					t.Error("it is well")
				}
			})
		}
	}
}

func TestABannerCanBeExpected(t *testing.T) {
	spec := Spec{Kind: Banner, Target: "smtp", Address: listen(t, stops("220 mail.example ESMTP\r\n")), Expect: "mail.example"}
	judges(t, spec, "")
	spec.Expect = "/^220 other/"
	judges(t, spec, "does not match")
}
