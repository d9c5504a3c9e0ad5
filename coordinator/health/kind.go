package health

import "slices"

// Kind is what a check asks.
type Kind string

// The kinds.
const (
	HTTP    Kind = "http"
	HTTPS   Kind = "https"
	TCP     Kind = "tcp"
	DNS     Kind = "dns"
	Exec    Kind = "exec"
	Process Kind = "process"
	File    Kind = "file"
	Banner  Kind = "banner"
)

// Kinds lists all, as they are told to people.
func Kinds() []Kind { return []Kind{HTTP, HTTPS, TCP, DNS, Exec, Process, File, Banner} }

// Takes reports whether a check of this kind can have the key. Those of when to
// ask go with every kind.
func (k Kind) Takes(key string) bool {
	switch key {
	case "interval", "timeout", "fall", "rise", "grace":
		return true
	}
	keys := map[Kind][]string{
		HTTP:   {"method", "host", "status", "expect", "redirects"},
		HTTPS:  {"method", "host", "status", "expect", "redirects", "verify"},
		DNS:    {"name", "type", "transport", "expect"},
		Exec:   {"status", "expect"},
		File:   {"expect"},
		Banner: {"address", "expect"},
	}
	return slices.Contains(keys[k], key)
}
