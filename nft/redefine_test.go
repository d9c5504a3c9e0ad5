package nft

import (
	"testing"
	"time"

	"earshot/hashmode"
)

// Another hash, number of buckets or list of ports is one transaction: the lease
// runs on, and what the kernel holds is what a fresh one would.
func TestServiceIsRedefined(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	s := web(buckets(0, 7), hashmode.Set{}, hashmode.Set{})
	leased(t, p, 1, s, other())
	must(t, p.Lease(time.Now().Add(time.Hour)))
	index := uint64(1)
	for name, change := range map[string]func(*Service){
		"hash":         func(s *Service) { s.Hash.Mode = hashmode.SourceIPSourcePortDestPort },
		"seed":         func(s *Service) { s.Hash.Seed++ },
		"more buckets": func(s *Service) { s.Hash.Buckets *= 64; s.Drain = buckets(100, 200) },
		"fewer":        func(s *Service) { s.Hash.Buckets = 4; s.Own, s.Drain = buckets(0, 1), buckets(2, 3) },
		"ports":        func(s *Service) { s.Ports = append([]Port{{UDP, 4711}}, s.Ports...) },
		"every port":   func(s *Service) { s.Ports = nil },
	} {
		changed := s
		change(&changed)
		index++
		rs := Ruleset{Index: index, Services: []Service{changed, other()}}
		must(t, p.Apply(rs))
		w.mustHold(rs)
		if left, err := p.LeaseLeft(); err != nil || left < 50*time.Minute {
			t.Errorf("%s: %v of the lease are left, %v", name, left, err)
		}
	}
	if n := p.Repairs(); n != 0 {
		t.Errorf("%d repairs", n)
	}
}
