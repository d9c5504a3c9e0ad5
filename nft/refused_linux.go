package nft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
)

// refusals are the services that this node cannot carry, with the reason. What
// the kernel holds of one depends on the reason:
//
//   - ErrOwnAddress: nothing;
//   - any other: its rules and buckets, but the address is on no interface, or
//     no frame to its MAC comes in. What should come in all the same is decided
//     by the map, so that the buckets rightly count as open until a map closes
//     them.
type refusals map[string]error

// add refuses the services of an address, unless that has been done.
func (r refusals) add(a address, why error) {
	for _, s := range a.Services {
		if r[s.Name] == nil {
			r[s.Name] = why
		}
	}
}

// err is a PartialError, or nil without refusals.
func (r refusals) err() error {
	if len(r) == 0 {
		return nil
	}
	return &PartialError{Services: r}
}

// text is equal for equal refusals.
func (r refusals) text() string { return (&PartialError{Services: r}).Error() }

// withRules are the services of the ruleset that the kernel has rules of.
func (r refusals) withRules(rs Ruleset) Ruleset {
	rs.Services = slices.DeleteFunc(slices.Clone(rs.Services), func(s Service) bool { return errors.Is(r[s.Name], ErrOwnAddress) })
	return rs
}

// refuseOwn refuses services whose address is the node's own: rules for it
// would cut the node off.
func (p *Plane) refuseOwn(services []Service) (refusals, error) {
	addrs, names, err := p.listAddresses()
	if err != nil {
		return nil, err
	}
	refused := refusals{}
	for _, s := range services {
		if err := ownAddress(s, addrs, names); err != nil {
			refused[s.Name] = err
		}
	}
	return refused, nil
}

// ownAddress returns ErrOwnAddress if the node has the service's address
// otherwise than as a shared one.
func ownAddress(s Service, addrs []netlink.Addr, names map[int]string) error {
	for _, a := range addrs {
		if addrOf(a) == s.Address && !ours(a) {
			return fmt.Errorf("%w: %s on %s", ErrOwnAddress, a.IPNet, names[a.LinkIndex])
		}
	}
	return nil
}

// refuseMissing refuses services on interfaces that do not exist, and takes
// the hooks of those out of the plan.
func (p *Plane) refuseMissing(pl *plan, refused refusals) error {
	missing := map[string]bool{}
	for _, ifname := range interfaces(pl.addresses) {
		_, err := p.link(ifname)
		if err != nil && !errors.Is(err, ErrNoInterface) {
			return err
		}
		missing[ifname] = err != nil
	}
	for _, a := range pl.addresses {
		if missing[a.Interface] {
			refused.add(a, noInterface(a.Interface))
		}
	}
	for i, t := range pl.tables {
		pl.tables[i].chains = slices.DeleteFunc(t.chains, func(ch chain) bool { return ch.hook != nil && missing[ch.hook.device] })
	}
	return nil
}

// link is an interface, ErrNoInterface, or errUnread.
func (p *Plane) link(name string) (netlink.Link, error) {
	link, err := p.links.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return nil, noInterface(name)
	case err != nil:
		return nil, fmt.Errorf("%w: interface %s: %w", errUnread, name, err)
	}
	return link, nil
}

func noInterface(name string) error { return fmt.Errorf("interface %s: %w", name, ErrNoInterface) }
