package nft

import (
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// refusal is the feature that Service.MayRefuse needs.
func refusal() feature {
	test := chain{name: "test", rules: []rule{when(isTCP(), rejectReset()), when(rejectUnreachable())}}
	return feature{"nf_tables reject in prerouting", "Linux 5.9 with CONFIG_NFT_REJECT_INET", func(c *nftables.Conn) error {
		// The kernel looks at the hook only when it commits, which a probe
		// never does.
		if !release(5, 9) {
			return unix.EOPNOTSUPP
		}
		return tryRules(inet, nil, test)(c)
	}}
}

// findRefusal reports whether this kernel can refuse what opens a flow.
func (p *Plane) findRefusal() bool { return p.tryFeature(refusal()) == nil }

// probeRefusal looks for it where a service wants it.
func (p *Plane) probeRefusal(services []Service) []Finding {
	return p.probeWanted(refusal(), services, func(s Service) bool { return s.MayRefuse },
		"the service is answered even while no node can serve it (fallback: keep)")
}

// release reports whether the running kernel is of this release or a later one.
func release(major, minor int) bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false
	}
	var x, y int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &x, &y); n != 2 {
		return false
	}
	return x > major || x == major && y >= minor
}
