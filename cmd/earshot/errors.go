package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"earshot/coordinator"
	"earshot/raftstore"
)

// The exit statuses of the contract.
const (
	exitDone   = 0
	exitFailed = 1
	exitMisuse = 2
)

// hinted is an error that knows the way out.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

// withHint adds a way out to an error; an empty hint adds nothing.
func withHint(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return hinted{err, hint}
}

// misuse is an error of whoever typed the command: the same command would
// fail again whatever the cluster's state.
type misuse struct{ error }

func (e misuse) Unwrap() error { return e.error }

func misusef(format string, args ...any) error { return misuse{fmt.Errorf(format, args...)} }

// exitStatus is the status that the program ends with.
func exitStatus(err error) int {
	var remote *coordinator.RemoteError
	var wrong misuse
	var cfg *configError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &wrong), errors.As(err, &cfg), errors.As(err, &remote) && remote.Misuse:
		return exitMisuse
	}
	return exitFailed
}

// report writes an error for people: what is wrong, then the way out, if
// there is one.
func report(w io.Writer, err error) {
	var cfg *configError
	if errors.As(err, &cfg) {
		for _, one := range cfg.Unwrap() {
			reportOne(w, one)
		}
		return
	}
	reportOne(w, err)
}

func reportOne(w io.Writer, err error) {
	fmt.Fprintf(w, "earshot: %v\n", err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

// hintOf returns the way out that an error names.
func hintOf(err error) string {
	var h hinted
	var remote *coordinator.RemoteError
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &remote):
		return remote.Hint
	case errors.Is(err, fs.ErrPermission):
		return "this needs root: try it with sudo"
	case errors.Is(err, raftstore.ErrForgotten), errors.Is(err, raftstore.ErrReplaced):
		return "its data directory is of no use any more: with data_dir emptied, it joins anew"
	case errors.Is(err, raftstore.ErrOtherRole):
		return "a node keeps its role: stop it, `earshot forget` it on another, `earshot flush`, empty data_dir, and start it in the new role"
	case errors.Is(err, raftstore.ErrOldMember), errors.Is(err, raftstore.ErrTooOld), errors.Is(err, raftstore.ErrVersion):
		return "bring all nodes to one version of earshot, the older ones first"
	case errors.Is(err, coordinator.ErrNoAgent):
		return "start one with `earshot agent`, or name its socket with --socket or EARSHOT_SOCKET"
	}
	return ""
}
