package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// table is what a part found.
type table struct {
	Part    string   `json:"part"`
	Doc     string   `json:"doc"`
	Columns []column `json:"columns"`
	Rows    []row    `json:"rows"`
	// Notes are what one must know to read the figures, and what is missing.
	Notes   []string `json:"notes,omitempty"`
	Seconds float64  `json:"seconds"` // that measuring took
}

// column is a column of figures.
type column struct {
	Name   string `json:"name"`
	Unit   string `json:"unit,omitempty"`
	digits int    // after the decimal point, in text
}

// row is a line of figures, one per column.
type row struct {
	Name   string   `json:"name"`
	Values []figure `json:"values"`
	// Samples are the single measurements behind the figures.
	Samples []float64 `json:"samples,omitempty"`
}

// figure is a number; NaN is one that there is not.
type figure float64

// missing is the figure that there is not.
func missing() figure { return figure(math.NaN()) }

// MarshalJSON writes null for a missing figure.
func (f figure) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// text writes the figure with so many digits.
func (f figure) text(digits int) string {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, float64(f))
}

// report is everything, as printed by -json.
type report struct {
	Facts  facts   `json:"facts"`
	Tables []table `json:"tables"`
}

// printer shows what was found, as it is found or at the end.
type printer interface {
	facts(facts)
	table(table)
	end() error
}

// jsonPrinter writes one object at the end.
type jsonPrinter struct {
	w io.Writer
	report
}

func (p *jsonPrinter) facts(f facts) { p.Facts = f }
func (p *jsonPrinter) table(t table) { p.Tables = append(p.Tables, t) }

func (p *jsonPrinter) end() error {
	enc := json.NewEncoder(p.w)
	enc.SetIndent("", "  ")
	return enc.Encode(p.report)
}

// textPrinter writes tables for people.
type textPrinter struct{ w io.Writer }

func (p textPrinter) facts(f facts) { fmt.Fprintln(p.w, f) }
func (p textPrinter) end() error    { return nil }

func (p textPrinter) table(t table) {
	fmt.Fprintf(p.w, "\n%s: %s (%.0f s)\n\n", t.Part, t.Doc, t.Seconds)
	for _, line := range t.lines() {
		fmt.Fprintf(p.w, "  %s\n", line)
	}
	for _, note := range t.Notes {
		fmt.Fprintf(p.w, "  * %s\n", note)
	}
}

// lines lays the table out, names to the left, figures to the right.
func (t table) lines() []string {
	cells := [][]string{{""}}
	for _, c := range t.Columns {
		cells[0] = append(cells[0], strings.TrimSpace(c.Name+" "+c.Unit))
	}
	for _, r := range t.Rows {
		line := []string{r.Name}
		for i, v := range r.Values {
			line = append(line, v.text(t.Columns[i].digits))
		}
		cells = append(cells, line)
	}
	widths := make([]int, len(t.Columns)+1)
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var lines []string
	for _, line := range cells {
		var b strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		lines = append(lines, b.String())
	}
	return lines
}

// median is the middle of the values, NaN of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
