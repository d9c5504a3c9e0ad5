package raftstore

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"unicode"
)

// ErrKey is wrapped by the errors of keys that cannot be used.
var ErrKey = errors.New("unusable cluster key")

const (
	// keyLength is the least number of characters of a key.
	keyLength = 32
	// keyBits is the least entropy of a key, counted from how often each of
	// its characters occurs. It finds the careless key, not the clever one:
	// whoever connects is shown a certificate that a weak key can be guessed
	// from, at leisure.
	keyBits = 100
	// keyFileMax bounds what is read of a key file.
	keyFileMax = 4096
)

// Key is the secret that all nodes of a cluster share. It does not show
// itself in logs; Text does.
type Key struct{ text string }

// GenerateKey returns a new random key.
func GenerateKey() Key {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return Key{text: base64.StdEncoding.EncodeToString(secret)}
}

// ParseKey reads a key as Text writes it, or any secret that is long and
// varied enough.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return Key{}, fmt.Errorf("%w: it is empty", ErrKey)
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return Key{}, fmt.Errorf("%w: it has more than one line", ErrKey)
	}
	if n := len(text); n < keyLength {
		return Key{}, fmt.Errorf("%w: it has %d characters, not at least %d", ErrKey, n, keyLength)
	}
	if entropy(text) < keyBits {
		return Key{}, fmt.Errorf("%w: its characters repeat too much", ErrKey)
	}
	return Key{text: text}, nil
}

// ReadKeyFile reads a key from a file that nobody but its owner may read.
func ReadKeyFile(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, fmt.Errorf("read key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Key{}, fmt.Errorf("read key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return Key{}, fmt.Errorf("read key file %s: %w: others may read or write it (mode %04o, not 0600)", path, ErrKey, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, keyFileMax))
	if err != nil {
		return Key{}, fmt.Errorf("read key file: %w", err)
	}
	key, err := ParseKey(string(text))
	if err != nil {
		return Key{}, fmt.Errorf("read key file %s: %w", path, err)
	}
	return key, nil
}

// Text is the key as it stands in a key file.
func (k Key) Text() string { return k.text }

// String hides the key.
func (k Key) String() string { return "(cluster key)" }

// GoString hides the key.
func (k Key) GoString() string { return k.String() }

// LogValue hides the key.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// entropy is the number of bits in a text whose characters are drawn as often
// as they occur in it.
func entropy(text string) float64 {
	count := map[rune]float64{}
	total := 0.0
	for _, r := range text {
		count[r]++
		total++
	}
	bits := 0.0
	for _, n := range count {
		bits -= n * math.Log2(n/total)
	}
	return bits
}
