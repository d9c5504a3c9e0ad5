package health

import (
	"fmt"
	"strconv"
	"strings"
)

// statuses are numbers that mean that all is well: HTTP statuses or exit
// statuses.
type statuses []statusRange

type statusRange struct{ from, to int }

// parseStatuses reads "200", "200-299" or "200,204,300-399".
func parseStatuses(s string, most int) (statuses, error) {
	var all statuses
	for part := range strings.SplitSeq(s, ",") {
		low, high, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if !ranged {
			high = low
		}
		from, err := strconv.Atoi(low)
		to, err2 := strconv.Atoi(high)
		if err != nil || err2 != nil || from < 0 || to > most || from > to {
			return nil, fmt.Errorf("%q is no status (0 to %d, as in 200 or 200-299,304)", s, most)
		}
		all = append(all, statusRange{from, to})
	}
	return all, nil
}

func (s statuses) have(n int) bool {
	for _, r := range s {
		if r.from <= n && n <= r.to {
			return true
		}
	}
	return false
}

// String is the numbers as they are written.
func (s statuses) String() string {
	var parts []string
	for _, r := range s {
		if r.from == r.to {
			parts = append(parts, strconv.Itoa(r.from))
			continue
		}
		parts = append(parts, fmt.Sprintf("%d-%d", r.from, r.to))
	}
	return strings.Join(parts, ",")
}
