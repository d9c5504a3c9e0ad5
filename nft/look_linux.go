package nft

import (
	"slices"
	"strings"
	"time"
)

// lookEvery is the time between two looks at what the kernel tells no message
// of: the membership in a cluster MAC, and settings.
const lookEvery = 250 * time.Millisecond

// missing names what of this others have taken away, or "". What it cannot
// read is left to the next comparison of everything.
func (p *Plane) missing() string {
	multicasts, err := p.multicasts()
	var lost []string
	for _, a := range p.watching().all {
		at := place{a.Interface, a.MAC}
		there := err != nil || multicasts[at.String()]
		if stealth(a.MAC) {
			p.mu.Lock()
			has, err := p.hasStealth(at)
			p.mu.Unlock()
			there = err != nil || has
		}
		if !there {
			lost = append(lost, at.String())
		}
		if now, err := p.arpAnnounce(a.Interface); a.Addr.Is4() && err == nil && now < arpAnnounceBest {
			lost = append(lost, "arp_announce of "+a.Interface)
		}
	}
	return strings.Join(slices.Compact(lost), ", ")
}
