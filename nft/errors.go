package nft

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrOlder: the kernel holds a newer map than the ruleset's (rule P11).
	ErrOlder = errors.New("older than what the kernel holds")
	// ErrLate: a lease could not be installed while it could be trusted; the
	// lease that stood before still stands (rule P8).
	ErrLate = errors.New("too late to install the lease")
	// ErrNoTable: the kernel holds no ruleset of ours.
	ErrNoTable = errors.New("no ruleset in the kernel")
	// ErrOwnAddress: the shared address is one of this node's own.
	ErrOwnAddress = errors.New("the address belongs to this node itself")
	// ErrNoInterface: the service's interface does not exist.
	ErrNoInterface = errors.New("no such interface")
	// ErrInvalid: the ruleset cannot be rendered, whatever the kernel.
	ErrInvalid = errors.New("invalid ruleset")
)

// PartialError: all of a ruleset has been applied but for some services that
// this node cannot carry.
type PartialError struct {
	Services map[string]error // why, by the service's name
}

func (e *PartialError) Error() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(e.Services)) {
		all = append(all, fmt.Sprintf("service %q: %v", name, e.Services[name]))
	}
	return strings.Join(all, "; ")
}

// Unwrap returns the reasons.
func (e *PartialError) Unwrap() []error { return slices.Collect(maps.Values(e.Services)) }

// UnsupportedError says what cannot be done here and what would bring it. It
// is an errors.ErrUnsupported.
type UnsupportedError struct {
	Feature string // such as "nf_tables netdev ingress"
	Needs   string // such as "Linux 4.2 with CONFIG_NF_TABLES_NETDEV"
	Err     error  // what the kernel said, or nil
}

func (e *UnsupportedError) Error() string {
	msg := fmt.Sprintf("%s: not supported (needs %s)", e.Feature, e.Needs)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Unwrap returns what the kernel said.
func (e *UnsupportedError) Unwrap() error { return e.Err }

// Is makes the error an errors.ErrUnsupported.
func (e *UnsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }
