package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"earshot/raftstore"
)

// weight is a node's share beside the others': a number that stands fast, or
// what a file holds whenever it is read.
type weight struct {
	Fixed int
	File  string
}

// maxWeightFile is how much of a weight's file is read.
const maxWeightFile = 64

// weight reads the key's text. `cores` counts the processors that this process
// may run on, as far as its CPU affinity goes.
func (l *loader) weight(s string) weight {
	if s == "cores" {
		return weight{Fixed: min(runtime.NumCPU(), raftstore.MaxWeight)}
	}
	if path, ok := strings.CutPrefix(s, "file:"); ok {
		if !filepath.IsAbs(path) {
			l.refuse("weight", "%q is not an absolute path", path)
		}
		return weight{File: path}
	}
	n, err := parseWeight(s)
	if err != nil {
		l.advise("write a number, cores, or file:PATH; 0 is a last resort, that has buckets only while no other node can have them", "weight", "%v", err)
	}
	return weight{Fixed: n}
}

// parseWeight reads a weight that is a number.
func parseWeight(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > raftstore.MaxWeight {
		return 0, fmt.Errorf("%q is no weight (0 to %d)", s, raftstore.MaxWeight)
	}
	return n, nil
}

// read is the weight as it is now.
func (w weight) read() (int, error) {
	if w.File == "" {
		return w.Fixed, nil
	}
	f, err := os.OpenFile(w.File, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not hold it up
	if err != nil {
		return 0, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxWeightFile+1))
	if err != nil {
		return 0, err
	}
	if len(data) > maxWeightFile {
		return 0, fmt.Errorf("%s holds more than %d bytes, not a weight alone", w.File, maxWeightFile)
	}
	n, err := parseWeight(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", w.File, err)
	}
	return n, nil
}

// start is the weight to begin with; below zero where the file does not tell.
// The node then keeps what the cluster knows of it.
func (w weight) start() int {
	n, err := w.read()
	if err != nil {
		return -1
	}
	return n
}

// source is what an agent reads while it runs; nil for what stands fast.
func (w weight) source() func() (int, error) {
	if w.File == "" {
		return nil
	}
	return w.read
}
