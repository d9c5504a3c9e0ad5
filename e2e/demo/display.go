package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// color is the parameter of an SGR control sequence (ECMA-48).
type color string

const (
	bold   color = "1"
	dim    color = "2"
	red    color = "31"
	green  color = "32"
	yellow color = "33"
)

// palette is what the terminal can show.
type palette struct {
	color       bool
	full, empty string // of a bar
}

// paint colours a text if the terminal is to have colours.
func (p palette) paint(c color, text string) string {
	if !p.color || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// display shows the story: as one screen on a terminal, else as plain lines.
type display struct {
	w      io.Writer
	screen bool
	palette
	size func() (columns, rows int)

	drawn  int       // lines of the frame that stands on the screen
	logged time.Time // of the newest plain frame
}

// newDisplay looks at a file and at the conventions of the environment.
func newDisplay(f *os.File) *display {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	terminal := err == nil && os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == ""
	d := &display{w: f, screen: terminal, palette: palette{color: terminal, full: "#", empty: "."}}
	if speaksUTF8() {
		d.full, d.empty = "█", "░"
	}
	d.size = func() (int, int) {
		ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		if err != nil || ws.Col == 0 || ws.Row == 0 {
			return 80, 24
		}
		return int(ws.Col), int(ws.Row)
	}
	return d
}

// speaksUTF8 looks at the locale. The first that is set counts, as in
// setlocale(3).
func speaksUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToLower(os.Getenv(name)); locale != "" {
			return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
		}
	}
	return false
}

// say writes a line that stays.
func (d *display) say(text string) {
	d.drawn = 0
	fmt.Fprintln(d.w, text)
}

// act announces an act; on a screen the frame does.
func (d *display) act(p step) {
	if d.screen {
		return
	}
	d.say("")
	d.say(p.title())
	d.say("  " + p.words)
}

// plainEvery is the time between two plain frames.
const plainEvery = time.Second

// frame shows a frame: over the one before on a screen, else now and then.
func (d *display) frame(f frame) {
	columns, rows := 0, 0
	if d.screen {
		columns, rows = d.size()
	}
	lines := f.lines(d.palette)
	if d.screen && len(lines) < rows {
		d.redraw(lines, columns)
		return
	}
	if time.Since(d.logged) >= plainEvery {
		d.logged = time.Now()
		d.say(f.plain())
	}
}

// redraw writes lines over those of the frame before, in one write so that
// nothing flickers. Longer lines than the terminal's are cut: a broken one
// would take two.
func (d *display) redraw(lines []string, columns int) {
	var out bytes.Buffer
	if d.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", d.drawn)
	}
	for _, line := range lines {
		out.WriteString("\r" + cut(line, columns) + "\x1b[K\n")
	}
	out.WriteString("\x1b[J")
	d.drawn = len(lines)
	_, _ = d.w.Write(out.Bytes()) // nobody to tell
}

// cut shortens a line to a number of columns; control sequences take none.
func cut(line string, columns int) string {
	var b strings.Builder
	used, control := 0, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			control = true
		case control:
			control = r != 'm'
		case used == columns:
			continue
		default:
			used++
		}
		b.WriteRune(r)
	}
	return b.String()
}

// summary writes the table of all acts with what was found.
func (d *display) summary(acts []act, counts []count, found []string) {
	if d.screen && d.drawn > 0 {
		// The last frame's table would stand above: take its place.
		fmt.Fprintf(d.w, "\x1b[%dA\x1b[J", d.drawn)
	}
	d.say("")
	d.say(d.paint(bold, "What the client saw"))
	d.say("")
	d.say(d.paint(dim, tableHead))
	for i := range acts {
		d.say(tableRow(d.palette, acts[i], counts[i]))
		if found[i] != "" {
			d.say("    " + found[i])
		}
	}
}
