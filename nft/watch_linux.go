package nft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nlenc"
	"golang.org/x/sys/unix"
)

// watched is what Watch looks at: set by Apply.
type watched struct {
	interfaces map[string]bool
	addresses  map[netip.Addr]bool
	all        []address
}

func watchedOf(all []address) watched {
	w := watched{map[string]bool{}, map[netip.Addr]bool{}, all}
	for _, a := range all {
		w.interfaces[a.Interface], w.addresses[a.Addr] = true, true
	}
	return w
}

// Watch calls changed when others change what Apply made: our tables, the
// links of the services' interfaces (up, down, carrier, MAC, re-created), a
// shared address, its MAC and settings, for which it looks by itself. Before it does, it forgets what we believe the kernel holds, as
// Resync does. It calls once as soon as it listens, for what happened before.
// Meanwhile it listens for strangers, as Strangers tells. Calls do not overlap. A change may be told more than once. It returns when
// ctx is done, or with the error that keeps it from watching.
func (p *Plane) Watch(ctx context.Context, changed func()) error {
	var rules, links *netlink.Conn
	err := p.ns.do(func() error {
		var err error
		if rules, err = subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES); err != nil {
			return fmt.Errorf("watch nf_tables: %w", err)
		}
		if links, err = subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR); err != nil {
			return errors.Join(fmt.Errorf("watch links: %w", err), rules.Close())
		}
		return nil
	})
	if err != nil {
		return err
	}
	told := make(chan struct{}, 1)
	tell := func() {
		select {
		case told <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var readers sync.WaitGroup
	seen := p.linkStates()
	tell()
	readers.Go(func() { cancel(receive(ctx, rules, p.foreignRules, tell)) })
	readers.Go(func() {
		cancel(receive(ctx, links, func(m netlink.Message) bool { return p.foreignLink(m, seen) }, tell))
	})
	readers.Go(func() { p.guard(ctx) })
	defer readers.Wait()
	defer cancel(nil)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var missing string
	for {
		select {
		case <-ctx.Done():
			// Only a deadline wakes a reader for sure.
			_ = rules.SetReadDeadline(time.Unix(1, 0))
			_ = links.SetReadDeadline(time.Unix(1, 0))
			readers.Wait()
			err := errors.Join(rules.Close(), links.Close())
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
				err = errors.Join(cause, err)
			}
			return err
		case <-look.C:
			// What cannot be mended is told once, not at every look.
			was := missing
			if missing = p.missing(); missing != "" && missing != was {
				tell()
			}
		case <-told:
			p.Resync()
			changed()
		}
	}
}

func subscribe(family int, groups ...uint32) (*netlink.Conn, error) {
	c, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, err
	}
	_ = c.SetReadBuffer(receiveBuffer) // what it cannot hold is told as a change
	for _, g := range groups {
		if err := c.JoinGroup(g); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// receive tells of the messages that are foreign until ctx is done. Messages
// that were lost may have been.
func receive(ctx context.Context, c *netlink.Conn, foreign func(netlink.Message) bool, tell func()) error {
	for {
		messages, err := c.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			tell()
			continue
		case err != nil:
			return fmt.Errorf("watch netlink: %w", err)
		}
		for _, m := range messages {
			if foreign(m) {
				tell()
			}
		}
	}
}

// foreignRules reports whether a message tells of somebody else's change of
// our tables. In every such message but the generation's, the first attribute
// type is the table's name.
func (p *Plane) foreignRules(m netlink.Message) bool {
	const nfgenmsg = 4
	if p.ports.has(m.Header.PID) || len(m.Data) < nfgenmsg || m.Header.Type&0xff == unix.NFT_MSG_NEWGEN {
		return false
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[nfgenmsg:])
	if err != nil {
		return true
	}
	for ad.Next() {
		if ad.Type() == unix.NFTA_TABLE_NAME {
			return ad.String() == TableName
		}
	}
	return false
}

// linkState is what of a link matters to us.
type linkState struct {
	index int
	heard bool
	mac   string
}

// linkStates reads the links' present states.
func (p *Plane) linkStates() map[string]linkState {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := map[string]linkState{}
	links, err := p.links.LinkList()
	if err != nil {
		return states // every link's first message then counts as a change
	}
	for _, l := range links {
		states[l.Attrs().Name] = linkState{l.Attrs().Index, heardFlags(l.Attrs().RawFlags), string(l.Attrs().HardwareAddr)}
	}
	return states
}

// foreignLink reports whether a message tells of a change of a link, or the
// loss of an address, that a service needs. It keeps seen up to date.
func (p *Plane) foreignLink(m netlink.Message, seen map[string]linkState) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return p.foreignLinkState(m, seen)
	case unix.RTM_DELADDR:
		ad, err := netlink.NewAttributeDecoder(tail(m.Data, unix.SizeofIfAddrmsg))
		if err != nil {
			return false
		}
		for ad.Next() {
			// IPv6 has the address as IFA_ADDRESS, which is a peer's in IPv4.
			if ad.Type() == unix.IFA_LOCAL || ad.Type() == unix.IFA_ADDRESS {
				addr, _ := netip.AddrFromSlice(ad.Bytes())
				if p.watching().addresses[addr] {
					return true
				}
			}
		}
	}
	return false
}

func (p *Plane) foreignLinkState(m netlink.Message, seen map[string]linkState) bool {
	// Other families tell of a bridge's ports, not of links.
	if len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
		return false
	}
	state := linkState{
		index: int(nlenc.Int32(m.Data[4:8])),
		heard: m.Header.Type == unix.RTM_NEWLINK && heardFlags(nlenc.Uint32(m.Data[8:12])),
	}
	ad, err := netlink.NewAttributeDecoder(tail(m.Data, unix.SizeofIfInfomsg))
	if err != nil {
		return false
	}
	name := ""
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			name = ad.String()
		case unix.IFLA_ADDRESS:
			state.mac = string(ad.Bytes())
		}
	}
	if name == "" {
		return false
	}
	// The old name of a renamed link goes.
	renamed := false
	maps.DeleteFunc(seen, func(other string, s linkState) bool {
		gone := other != name && s.index == state.index
		renamed = renamed || gone && p.watching().interfaces[other]
		return gone
	})
	was, known := seen[name]
	if known && state.heard && !was.heard {
		p.forgetUnanswered(state.index)
	}
	if m.Header.Type == unix.RTM_DELLINK {
		delete(seen, name)
	} else {
		seen[name] = state
	}
	return renamed || p.watching().interfaces[name] && (!known || was != state)
}

func (p *Plane) watching() watched {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watch
}

func tail(b []byte, n int) []byte { return b[min(n, len(b)):] }
