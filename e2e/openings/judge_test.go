package openings

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ms is a moment known exactly, between the widths of a bracket.
func ms(n int) stamp {
	return stamp{Moment(n) * time.Millisecond, Moment(n)*time.Millisecond + time.Millisecond}
}

const web, echo = "web", "echo"

var first = Place{web, 7}

// always is a node with a lease and the bucket from one moment to another.
func always(from, to stamp) *timeline {
	t := newTimeline()
	t.lease(ms(0), stamp{Never, Never})
	t.hold(first, from, true)
	t.hold(first, to, false)
	return t
}

// I1: two nodes that are certainly open at once are found, and what may as well
// be a handoff is not.
func TestOverlaps(t *testing.T) {
	for _, c := range []struct {
		name  string
		a, b  *timeline
		found []Interval
	}{
		{"handoff", always(ms(0), ms(100)), always(ms(102), ms(300)), nil},
		{"within the brackets", always(ms(0), ms(100)), always(ms(99), ms(300)), nil},
		{"overlap", always(ms(0), ms(100)), always(ms(90), ms(300)), []Interval{{91 * time.Millisecond, 100 * time.Millisecond}}},
	} {
		got := Record{"n1": c.a, "n2": c.b}.Overlaps([]Place{first, {echo, 7}})
		var found []Interval
		for _, f := range got {
			found = append(found, f.Interval)
			if f.nodes != "n1 and n2" || f.service != web || f.buckets.String() != "7" {
				t.Errorf("%s: %v", c.name, f)
			}
		}
		if !slices.Equal(found, c.found) {
			t.Errorf("%s: %v, want %v", c.name, got, c.found)
		}
	}
}

// I1, I4: a bucket in the kernel without a lease is not open, and a lease that
// outlives what it should by 10 ms is seen.
func TestOverlapsOfLeases(t *testing.T) {
	for end, want := range map[int]int{100: 0, 115: 1} {
		old, heir := newTimeline(), always(ms(102), ms(400))
		old.hold(first, ms(0), true)
		old.lease(ms(0), ms(60))
		old.lease(ms(50), ms(end)) // renewed
		if got := (Record{"n1": old, "n2": heir}).Overlaps([]Place{first}); len(got) != want {
			t.Errorf("lease until %d: %v", end, got)
		}
	}
}

// I2: a time without any node is found if it is not excused.
func TestGaps(t *testing.T) {
	r := Record{"n1": always(ms(0), ms(100)), "n2": always(ms(500), ms(900))}
	within := Interval{10 * time.Millisecond, 800 * time.Millisecond}
	got := r.Gaps([]Place{first}, within, nil, 0)
	if len(got) != 1 || got[0].Interval != (Interval{101 * time.Millisecond, 500 * time.Millisecond}) {
		t.Errorf("%v", got)
	}
	if long := Longer(got, 300*time.Millisecond); len(long) != 1 {
		t.Errorf("%v", long)
	}
	if got := r.Gaps([]Place{first}, within, []Interval{{90 * time.Millisecond, 450 * time.Millisecond}}, 0); Longest(got) != 50*time.Millisecond {
		t.Errorf("%v", got)
	}
	if got := r.Gaps([]Place{{web, 8}}, within, nil, 0); Longest(got) != within.Length() {
		t.Errorf("a bucket that nobody ever had: %v", got)
	}
	taker := always(ms(300), ms(900))
	taker.holds = map[Place][]span{}
	taker.take(first, ms(300), true)
	taker.take(first, ms(500), false)
	r["n3"] = taker
	for most, want := range map[time.Duration]time.Duration{250 * time.Millisecond: 199 * time.Millisecond, 150 * time.Millisecond: 399 * time.Millisecond} {
		if got := r.Gaps([]Place{first}, within, nil, most); Longest(got) != want {
			t.Errorf("with a take of 200 ms where %v are allowed: %v", most, got)
		}
	}
}

// lease are the changes of package nft that install a lease.
func lease(slot int, length time.Duration) [][]change {
	key := binary.BigEndian.AppendUint16(nil, etherIP4)
	other := 1 - slot
	return [][]change{
		{{set: leaseSet(slot), all: true}, {set: leaseSet(slot), add: true, key: key, timeout: length}},
		{{set: selectedSet(other), key: key}, {set: leaseSet(other), key: key}, {set: selectedSet(slot), add: true, key: key}},
	}
}

// The shadow follows the lease through both slots, its end by itself, and the
// loss of the table.
func TestShadow(t *testing.T) {
	s := newShadow(4 * time.Millisecond)
	bucket := binary.NativeEndian.AppendUint32(nil, 7)
	s.apply([]change{{set: "web_inherit", add: true, key: bucket}, {set: "web_drain", add: true, key: bucket}}, ms(5))
	for i, at := range []int{10, 60, 110} {
		for _, transaction := range lease(i%2, 100*time.Millisecond) {
			s.apply(transaction, ms(at))
		}
	}
	// Another kind of holding is no break.
	s.apply([]change{{set: "web_inherit", key: bucket}, {set: "web_own", add: true, key: bucket}}, ms(120))
	open := s.open(first, certain)
	if len(open) != 1 || open[0] != (Interval{11 * time.Millisecond, 204 * time.Millisecond}) {
		t.Errorf("open %v", open)
	}
	if may := s.open(first, possible); len(may) != 1 || may[0].To != 215*time.Millisecond {
		t.Errorf("possibly open %v", may)
	}
	s.apply([]change{{}}, ms(150))
	if open := s.open(first, certain); len(open) != 1 || open[0].To != 150*time.Millisecond {
		t.Errorf("open after the loss of the table: %v", open)
	}
}

// attribute is a netlink attribute.
func attribute(kind uint16, data []byte) []byte {
	b, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: kind, Data: data}})
	if err != nil {
		panic(err)
	}
	return b
}

// notification is what the kernel sends of an element with a timeout.
func notification(table string) []byte {
	key := attribute(unix.NFTA_SET_ELEM_KEY, attribute(unix.NFTA_DATA_VALUE, []byte{8, 0}))
	timeout := attribute(unix.NFTA_SET_ELEM_TIMEOUT, binary.BigEndian.AppendUint64(nil, 250))
	element := attribute(unix.NFTA_LIST_ELEM, append(key, timeout...))
	return slices.Concat([]byte{unix.NFPROTO_INET, 0, 0, 0},
		attribute(unix.NFTA_SET_ELEM_LIST_TABLE, append([]byte(table), 0)),
		attribute(unix.NFTA_SET_ELEM_LIST_SET, []byte("lease_a\x00")),
		attribute(unix.NFTA_SET_ELEM_LIST_ELEMENTS, element))
}

// Notifications of our table are read, those of others are not.
func TestParse(t *testing.T) {
	header := netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSETELEM)
	for table, want := range map[string]int{tableName: 1, "other": 0} {
		got, end, err := parse(header, notification(table))
		if err != nil || end || len(got) != want {
			t.Fatalf("%s: %v, %v, %v", table, got, end, err)
		}
		if want == 1 && (got[0].set != "lease_a" || !got[0].add || string(got[0].key) != "\x08\x00" || got[0].timeout != 250*time.Millisecond) {
			t.Errorf("%+v", got[0])
		}
	}
	if _, end, err := parse(header&0xff00|unix.NFT_MSG_NEWGEN, []byte{0, 0, 0, 0}); !end || err != nil {
		t.Errorf("end of a transaction: %v, %v", end, err)
	}
}
