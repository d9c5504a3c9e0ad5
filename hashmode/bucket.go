package hashmode

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Bucket is one slot of the hash, 0 … buckets-1.
type Bucket uint32

// Set is a set of buckets. The zero Set is empty; a Set is copied with Clone.
type Set struct {
	words []uint64
}

// NewSet returns the set of the given buckets.
func NewSet(buckets ...Bucket) Set {
	var s Set
	for _, b := range buckets {
		s.Add(b)
	}
	return s
}

// Range returns the set of all buckets from first to last, both included.
func Range(first, last Bucket) Set {
	var s Set
	for b := first; b <= last; b++ {
		s.Add(b)
	}
	return s
}

// Add puts b into the set.
func (s *Set) Add(b Bucket) {
	w := int(b / 64)
	for len(s.words) <= w {
		s.words = append(s.words, 0)
	}
	s.words[w] |= 1 << (b % 64)
}

// Remove takes b out of the set.
func (s *Set) Remove(b Bucket) {
	if w := int(b / 64); w < len(s.words) {
		s.words[w] &^= 1 << (b % 64)
	}
}

// Has reports whether b is in the set.
func (s Set) Has(b Bucket) bool {
	w := int(b / 64)
	return w < len(s.words) && s.words[w]&(1<<(b%64)) != 0
}

// Len returns the number of buckets in the set.
func (s Set) Len() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// Empty reports whether the set has no bucket.
func (s Set) Empty() bool { return s.Len() == 0 }

// All yields the buckets in rising order.
func (s Set) All() iter.Seq[Bucket] {
	return func(yield func(Bucket) bool) {
		for i, w := range s.words {
			for ; w != 0; w &= w - 1 {
				if !yield(Bucket(i*64 + bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// Clone returns a set of its own with the same buckets.
func (s Set) Clone() Set { return Set{words: slices.Clone(s.words)} }

// Equal reports whether both sets have the same buckets.
func (s Set) Equal(t Set) bool { return s.Minus(t).Empty() && t.Minus(s).Empty() }

// Minus returns the buckets of s that are not in t.
func (s Set) Minus(t Set) Set {
	r := s.Clone()
	for i := range r.words {
		if i < len(t.words) {
			r.words[i] &^= t.words[i]
		}
	}
	return r
}

// Intersect returns the buckets that are in s and in t.
func (s Set) Intersect(t Set) Set {
	r := s.Clone()
	for i := range r.words {
		if i < len(t.words) {
			r.words[i] &= t.words[i]
		} else {
			r.words[i] = 0
		}
	}
	return r
}

// Union returns the buckets that are in s or in t.
func (s Set) Union(t Set) Set {
	if len(s.words) < len(t.words) {
		s, t = t, s
	}
	r := s.Clone()
	for i, w := range t.words {
		r.words[i] |= w
	}
	return r
}

// String writes the set as sorted ranges, such as "0-340,350". The empty set
// is the empty string.
func (s Set) String() string {
	var out strings.Builder
	flush := func(first, last Bucket) {
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, "%d", first)
		if last > first {
			fmt.Fprintf(&out, "-%d", last)
		}
	}
	var first, last Bucket
	open := false
	for b := range s.All() {
		switch {
		case !open:
			first, open = b, true
		case b != last+1:
			flush(first, last)
			first = b
		}
		last = b
	}
	if open {
		flush(first, last)
	}
	return out.String()
}

// ErrSet is wrapped by the error for text that is no set of buckets.
var ErrSet = errors.New("not a list of buckets")

// ParseSet reads what String writes: "7", "0-63,100". Buckets need not be in
// order. Each must be below buckets.
func ParseSet(text string, buckets int) (Set, error) {
	var s Set
	if text == "" {
		return s, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		if !isRange {
			hi = lo
		}
		first, err1 := strconv.ParseUint(lo, 10, 32)
		last, err2 := strconv.ParseUint(hi, 10, 32)
		if err1 != nil || err2 != nil || first > last {
			return Set{}, fmt.Errorf("%w: %q (write them as in 7 or 0-63,100)", ErrSet, text)
		}
		if last >= uint64(buckets) {
			return Set{}, fmt.Errorf("%w: %q: bucket %d out of range (0 to %d)", ErrSet, text, last, buckets-1)
		}
		s = s.Union(Range(Bucket(first), Bucket(last)))
	}
	return s, nil
}
