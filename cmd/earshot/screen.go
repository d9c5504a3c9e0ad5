package main

import (
	"bytes"
	"io"
)

// screen shows one text after the other: in place on a terminal, else below
// each other.
type screen struct {
	w io.Writer
	// redraw: put each text over the one before.
	redraw bool
	// apart: put an empty line between texts that are not redrawn.
	apart bool
	drawn bool
}

// screen returns standard output as a screen. JSON is never redrawn.
func (a *app) screen(asJSON bool) *screen {
	return &screen{w: a.stdout, redraw: a.terminal.Interactive && !asJSON, apart: !asJSON}
}

// Control sequences of ECMA-48.
const (
	cursorHome   = "\x1b[H"
	clearScreen  = "\x1b[2J"
	clearLineEnd = "\x1b[K"
	clearBelow   = "\x1b[J"
)

// draw shows what f writes, in one write so that nothing flickers.
func (s *screen) draw(f func(io.Writer) error) error {
	var text, out bytes.Buffer
	if err := f(&text); err != nil {
		return err
	}
	switch {
	case s.redraw:
		if !s.drawn {
			out.WriteString(clearScreen)
		}
		out.WriteString(cursorHome)
		out.Write(bytes.ReplaceAll(text.Bytes(), []byte("\n"), []byte(clearLineEnd+"\n")))
		out.WriteString(clearBelow)
	case s.drawn && s.apart:
		out.WriteByte('\n')
		out.Write(text.Bytes())
	default:
		out.Write(text.Bytes())
	}
	s.drawn = true
	_, err := s.w.Write(out.Bytes())
	return err
}
