package health

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// expectation is what an answer must contain: a text, or what a regular
// expression between slashes matches.
type expectation struct {
	text string
	expr *regexp.Regexp
}

// parseExpect reads "foobar3000" or "/^ok [0-9]+/".
func parseExpect(s string) (expectation, error) {
	if len(s) < 2 || !strings.HasPrefix(s, "/") || !strings.HasSuffix(s, "/") {
		return expectation{text: s}, nil
	}
	expr, err := regexp.Compile(s[1 : len(s)-1])
	if err != nil {
		return expectation{}, fmt.Errorf("%q is no regular expression: %w", s, err)
	}
	return expectation{text: s, expr: expr}, nil
}

// none reports that nothing is asked for.
func (e expectation) none() bool { return e.text == "" }

// in looks for the expectation in an answer.
func (e expectation) in(answer []byte, where string) error {
	switch {
	case e.none():
		return nil
	case e.expr != nil && e.expr.Match(answer), e.expr == nil && bytes.Contains(answer, []byte(e.text)):
		return nil
	case e.expr != nil:
		return fmt.Errorf("%s does not match %s", where, e.text)
	}
	return fmt.Errorf("%s does not contain %q", where, e.text)
}

var errTooLong = errors.New("is longer than")

// readBounded reads all, and refuses what is longer than the bound.
func readBounded(r io.Reader, most int64, what string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s %w %d KiB", what, errTooLong, most>>10)
	}
	return data, nil
}
