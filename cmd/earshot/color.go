package main

// color is the parameter of an SGR control sequence (ECMA-48).
type color string

const (
	bold   color = "1"
	dim    color = "2"
	red    color = "31"
	green  color = "32"
	yellow color = "33"
	cyan   color = "36"
)

// paint colours a text if the terminal is to have colours.
func (r *statusText) paint(c color, text string) string {
	if !r.view.Color || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}
