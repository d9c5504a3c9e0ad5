package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage an agent gathers before it is collected, as a
// share of what it keeps. Go's own 100 doubles the memory of a leader with many
// nodes. What an agent keeps is small, so collecting it twice as often costs
// little.
const gcPercent = 50

// keepHeapSmall sets gcPercent, unless the environment says it, as for any
// program in Go.
func keepHeapSmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
