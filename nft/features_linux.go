package nft

import (
	"errors"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// A feature of the kernel that the rules need, with a transaction that uses
// it in a table of its own.
type feature struct {
	name  string
	needs string
	try   func(c *nftables.Conn) error
}

// probeTable is never committed.
const probeTable = "earshot_probe"

// probeFeatures tries each feature. Every transaction ends with the deletion
// of a table that does not exist, so the kernel takes all of it back; a
// feature is there if nothing else was refused.
func (p *Plane) probeFeatures(wanted []feature) []Finding {
	var findings []Finding
	for _, f := range wanted {
		found := Finding{Severity: OK, What: f.name}
		if err := p.tryFeature(f); err != nil {
			found.Severity, found.Mend = Fail, "use "+f.needs
			found.Err = &UnsupportedError{Feature: f.name, Needs: f.needs, Err: err}
			if errors.Is(err, unix.EPERM) {
				found.Mend, found.Err = "run as root, or give the process CAP_NET_ADMIN", err
			}
		}
		findings = append(findings, found)
	}
	return findings
}

// probeWanted tries a feature for each service that wants it, and warns of what
// comes without.
func (p *Plane) probeWanted(wanted feature, services []Service, wants func(Service) bool, without string) []Finding {
	var findings []Finding
	for _, s := range services {
		if !wants(s) {
			continue
		}
		f := p.probeFeatures([]feature{wanted})[0]
		if f.Service = s.Name; f.Severity == Fail {
			f.Severity, f.Mend = Warn, f.Mend+"; without it "+without
		}
		findings = append(findings, f)
	}
	return findings
}

func (p *Plane) tryFeature(f feature) error {
	err := p.wire.transact(func(c *nftables.Conn) error {
		if err := f.try(c); err != nil {
			return err
		}
		c.DelTable(&nftables.Table{Name: probeTable + "_none", Family: arpFamily})
		return nil
	})
	return withoutLast(err)
}

// withoutLast takes the deliberate refusal out of a transaction's errors.
func withoutLast(err error) error {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return err
	}
	all := joined.Unwrap()
	return errors.Join(all[:len(all)-1]...)
}

// tryRules adds chains and rules in a throw-away table.
func tryRules(f nftables.TableFamily, sets []set, chains ...chain) func(*nftables.Conn) error {
	return func(c *nftables.Conn) error {
		t := &nftables.Table{Name: probeTable, Family: f}
		c.AddTable(t)
		for i, s := range sets {
			if err := addSet(c, t, s, uint32(i+1)); err != nil {
				return err
			}
		}
		for _, ch := range chains {
			addChain(c, t, ch)
		}
		for _, ch := range chains {
			for _, r := range ch.rules {
				addRule(c, t, ch, r)
			}
		}
		return nil
	}
}

func features() []feature {
	spec := hashmode.Spec{Mode: hashmode.SourceIPSourcePort, Buckets: 16, Seed: 1}
	buckets := set{name: "buckets", key: nftables.TypeMark, size: 16}
	lease := set{name: slotA.lease(), key: nftables.TypeEtherType, timeout: true}
	mac := net.HardwareAddr{1, 0, 0x5e, 1, 2, 3}
	test := func(rules ...rule) chain { return chain{name: "test", rules: rules} }
	hooked := func(num nftables.ChainHook, device string) chain {
		return chain{name: "test", hook: &hook{num: num, device: device}}
	}
	return []feature{
		{"nf_tables netdev ingress", "Linux 4.2 with CONFIG_NF_TABLES_NETDEV",
			tryRules(netdev, nil, hooked(*nftables.ChainHookIngress, "lo"))},
		{"nf_tables inet", "Linux 3.14 with CONFIG_NF_TABLES_INET",
			tryRules(inet, nil, hooked(*nftables.ChainHookPrerouting, ""))},
		{"nf_tables arp", "Linux 3.14 with CONFIG_NF_TABLES_ARP",
			tryRules(arpFamily, nil, hooked(arpOut, ""))},
		{"nf_tables sets with timeouts", "Linux 4.1", tryRules(inet, []set{lease}, test(when(protocolIn(lease.name))))},
		{"nf_tables hash", "Linux 4.9 with CONFIG_NFT_HASH",
			tryRules(netdev, []set{buckets}, test(when(bucketHash(spec, inbound(), false), in(buckets.name), drop())))},
		{"nf_tables packet type change", "Linux 4.10", tryRules(netdev, nil, test(when(setHost())))},
		{"nf_tables conntrack", "Linux 3.13 with CONFIG_NFT_CT and nf_conntrack", tryRules(inet, nil, test(when(ctStatusConfirmed(), accept())))},
		{"nf_tables IPv6 extension headers", "Linux 4.11", tryRules(netdev, nil, test(when(isIP(netdev, true), fragment(true), accept())))},
		{"nf_tables payload write with checksum", "Linux 4.5", tryRules(inet, nil, test(when(isIP(inet, true), neighbourMessage(advertisement, targetMAC, netip.IPv6Unspecified()), setNeighbourMAC(mac))))},
		{"nf_tables ARP payload write", "Linux 4.5", tryRules(arpFamily, nil, test(when(arpSource(netip.IPv4Unspecified()), setARPSource(mac), accept())))},
	}
}
