package nft

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Jiffy returns the kernel's tick, to which its timers, and so leases, round
// up. It is the resolution of the coarse clocks.
func Jiffy() (time.Duration, error) {
	var res unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &res); err != nil {
		return 0, fmt.Errorf("read the kernel's tick: %w", err)
	}
	return time.Duration(res.Nano()), nil
}
