package coordinator

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"

	"earshot/nft"
	"earshot/raftstore"
)

// refusedRetry is the wait between two looks whether the kernel can carry what
// it refused. Of links the kernel tells by itself; of an address of the node's
// own that went, or a setting, it does not. Each look reads all that it holds.
const refusedRetry = time.Second

// carry has the kernel take a ruleset. A service that this node cannot carry
// (its interface is missing, say) is no reason to hold no map: what the map
// opens, closes and gives away is true of the kernel all the same, and of that
// service it answers nobody. The node is deaf to it, so that the leader gives
// its share to others, and goes on with the rest.
func (r *reconciler) carry(want nft.Ruleset) error {
	err := r.kernel.Apply(want)
	var partial *nft.PartialError
	if err != nil && !errors.As(err, &partial) {
		return fmt.Errorf("apply map %d: %w", want.Index, err)
	}
	refused := map[string]string{}
	if partial != nil {
		for service, why := range partial.Services {
			refused[service] = why.Error()
		}
	}
	for service := range r.refused {
		r.regained = r.regained || refused[service] == ""
	}
	r.refused = refused
	return nil
}

// reach says why no packet of a service can reach this node; empty if some can.
func (r *reconciler) reach(s nft.Service) string {
	if why, refused := r.refused[s.Name]; refused {
		return why
	}
	switch connected, err := r.kernel.Carrier(s.Interface); {
	case err != nil:
		return err.Error()
	case !connected:
		return fmt.Sprintf("interface %s has no carrier", s.Interface)
	}
	return ""
}

// wiring names this node's own interfaces for services, as its config file does.
// One that the file does not name any more is remembered: the cluster may still
// have it. What is named changes with the file.
type wiring struct {
	named atomic.Pointer[map[string]string]
}

// set takes in what the file says.
func (w *wiring) set(services []raftstore.Definition) {
	next := maps.Clone(w.all())
	if next == nil {
		next = map[string]string{}
	}
	for _, d := range services {
		next[d.Name] = d.Interface
	}
	w.named.Store(&next)
}

// all is never written to.
func (w *wiring) all() map[string]string {
	if named := w.named.Load(); named != nil {
		return *named
	}
	return nil
}

// rewire has the kernel follow the file's interfaces.
func (c *Coordinator) rewire(s Settings) {
	c.wiring.set(s.Services)
	signal(c.reconciler.rewired)
}

// interfacesOf says on which interface this node has each address. An address is
// in one place, also where several services share it: the one that the node's own
// config names, else that of a definition; of several the first by the services'
// names. Nodes may differ in it: no bucket depends on it.
func interfacesOf(st *raftstore.State, own map[string]string) map[netip.Addr]string {
	named, defined := map[netip.Addr]string{}, map[netip.Addr]string{}
	first := func(all map[netip.Addr]string, a netip.Addr, ifname string) {
		if all[a] == "" && ifname != "" {
			all[a] = ifname
		}
	}
	for _, name := range st.ServiceNames() {
		d := st.Services[name].Definition
		first(named, d.Address.Addr(), own[name])
		first(defined, d.Address.Addr(), d.Interface)
	}
	maps.Copy(defined, named)
	return defined
}
