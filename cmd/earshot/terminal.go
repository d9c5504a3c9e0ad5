package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
)

// terminal is what standard output can show.
type terminal struct {
	// Interactive: somebody looks at it; what was written can be redrawn.
	Interactive bool
	Color       bool
	// Unicode: blocks and arrows can be shown.
	Unicode bool
}

// terminalOf looks at a file and at the conventions of the environment.
func terminalOf(f *os.File) terminal {
	t := terminal{Interactive: isatty.IsTerminal(f.Fd())}
	t.Color = t.Interactive && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	// The first that is set counts, as in setlocale(3).
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := os.Getenv(name); locale != "" {
			locale = strings.ToLower(locale)
			t.Unicode = strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
			break
		}
	}
	return t
}

// askAt asks whoever sits at the terminal in, and reports whether it is one.
func askAt(in *os.File, out io.Writer, question string) (answer string, asked bool) {
	if !isatty.IsTerminal(in.Fd()) {
		return "", false
	}
	fmt.Fprint(out, question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	return answer, err == nil
}
