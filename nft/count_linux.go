package nft

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// counterReader has a connection and a lock of its own, so that no Apply waits
// for a long list.
type counterReader struct {
	mu   sync.Mutex
	wire wire
}

func (r *counterReader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wire.close()
}

// read lists the elements of those of the sets in our table that exist.
func (r *counterReader) read(wanted map[string]string) (map[string][]nftables.SetElement, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	elements := map[string][]nftables.SetElement{}
	err := r.wire.read(func(c *nftables.Conn) error {
		present, err := ourTables(c)
		if err != nil || !slices.Contains(present, inet) {
			return err
		}
		sets, err := c.GetSets(tableOf(inet))
		if err != nil {
			return err
		}
		for _, s := range sets {
			service, ok := wanted[s.Name]
			if !ok {
				continue
			}
			if elements[service], err = c.GetSetElements(s); err != nil {
				return err
			}
		}
		return nil
	})
	return elements, err
}

// NewFlows reads how many flows have begun in the buckets of the services that
// have them counted, by service and bucket. A bucket's count starts from zero
// when it comes to this node, and when somebody has removed the rules; while
// the rules change, buckets may be left out. Of a service whose flows this
// kernel does not count there is no entry.
func (p *Plane) NewFlows(services []Service) (map[string]map[hashmode.Bucket]uint64, error) {
	wanted := map[string]string{}
	for _, s := range services {
		if s.CountNew && p.counts {
			wanted[setNew(s.Name)] = s.Name
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	read, err := p.counters.read(wanted)
	if err != nil {
		return nil, fmt.Errorf("read the counters of new flows: %w", err)
	}
	counts := map[string]map[hashmode.Bucket]uint64{}
	for service, elements := range read {
		counts[service] = map[hashmode.Bucket]uint64{}
		for _, e := range elements {
			if len(e.Key) == 4 && e.Counter != nil {
				counts[service][hashmode.Bucket(binary.NativeEndian.Uint32(e.Key))] = e.Counter.Packets
			}
		}
	}
	return counts, nil
}

// counting is the feature that Service.CountNew needs.
func counting() feature {
	flows := set{name: "flows", key: nftables.TypeMark, size: 16, counter: true}
	spec := hashmode.Spec{Mode: hashmode.SourceIP, Buckets: 16, Seed: 1}
	test := chain{name: "test", rules: []rule{when(isIP(inet, false), bucketHash(spec, inbound(), false), in(flows.name), accept())}}
	return feature{"nf_tables counters in sets", "Linux 5.7", func(c *nftables.Conn) error {
		// Older kernels pass over what they do not know, and count nothing.
		if !release(5, 7) {
			return unix.EOPNOTSUPP
		}
		return tryRules(inet, []set{flows}, test)(c)
	}}
}

// findCounting reports whether this kernel can count flows that begin.
func (p *Plane) findCounting() bool { return p.tryFeature(counting()) == nil }

// probeCounting looks for it where a service wants it.
func (p *Plane) probeCounting(services []Service) []Finding {
	return p.probeWanted(counting(), services, func(s Service) bool { return s.CountNew },
		"the load of this node is the flows that are open, and short ones make it no hotter (balance: load)")
}
