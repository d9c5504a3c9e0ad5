package main

import (
	"encoding/json"
	"fmt"
	"io"

	"earshot/coordinator/doctor"
	"earshot/nft"
)

// checkup is what `earshot check --json` prints. Its names are a promise: add
// to them, never change their meaning.
type checkup struct {
	// Agent: an agent runs here, and the network was examined.
	Agent    bool             `json:"agent"`
	Findings []doctor.Finding `json:"findings"`
}

// print writes the findings for people or for programs.
func (r checkup) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	}
	labels := map[nft.Severity]string{nft.OK: "ok  ", nft.Warn: "warn", nft.Fail: "FAIL"}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s  %s\n", labels[f.Severity], sentence(f))
		if f.Mend != "" {
			fmt.Fprintf(w, "      hint: %s\n", f.Mend)
		}
		if f.Note != "" {
			fmt.Fprintf(w, "            (%s)\n", f.Note)
		}
	}
	return nil
}

// sentence is a finding in one line.
func sentence(f doctor.Finding) string {
	text := f.What
	if f.Service != "" {
		text = "service " + f.Service + ": " + text
	}
	if f.Node != "" {
		text = f.Node + ": " + text
	}
	return text
}
