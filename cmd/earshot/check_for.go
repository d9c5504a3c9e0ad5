package main

import (
	"embed"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"

	"earshot/nft"
	"earshot/raftstore"
)

// listVendors is what --for means without a vendor.
const listVendors = "list"

// recipes has a template for each kind of router or switch. The first line of
// each says what it is for.
//
//go:embed switches/*.tmpl
var recipes embed.FS

// vendors are the kinds that there is a recipe for, in order.
func vendors() []string {
	files, _ := recipes.ReadDir("switches") // it was there when this was built
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".tmpl"))
	}
	return names
}

// recipe returns a kind's one line and its template.
func recipe(vendor string) (about, text string, err error) {
	content, err := recipes.ReadFile(path.Join("switches", vendor+".tmpl"))
	if err != nil {
		return "", "", withHint(misusef("--for: unknown vendor %q (use %s)", vendor, strings.Join(vendors(), ", ")), "docs/network.md tells what any other switch has to do")
	}
	about, text, _ = strings.Cut(string(content), "\n")
	return about, text, nil
}

// checkFor prints what a kind of router or switch needs for the services of a
// configuration.
func (a *app) checkFor(file, vendor string) error {
	if vendor == listVendors {
		for _, name := range vendors() {
			about, _, err := recipe(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%-12s %s\n", name, about)
		}
		return nil
	}
	about, text, err := recipe(vendor)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(file)
	if err != nil {
		return err
	}
	return writeRecipe(a.stdout, about, text, sharedOf(cfg.Services))
}

// shared is a shared address as the templates write it.
type shared struct {
	Services string // that have it
	Address  netip.Addr
	MAC      net.HardwareAddr
	// Device is the nodes' interface.
	Device  string
	Stealth bool
	// Group is the multicast group of the MAC; invalid if it has none.
	Group netip.Addr
}

// V6 reports whether it is an IPv6 address.
func (s shared) V6() bool { return s.Address.Is6() }

// Dots is the MAC as Cisco writes it, 0100.5e28.3814.
func (s shared) Dots() string {
	hex := fmt.Sprintf("%x", []byte(s.MAC))
	return hex[:4] + "." + hex[4:8] + "." + hex[8:]
}

// Dashes is the MAC as Windows writes it, 01-00-5e-28-38-14.
func (s shared) Dashes() string { return strings.ReplaceAll(s.MAC.String(), ":", "-") }

// Hyphens is the MAC as Comware writes it, 0100-5e28-3814.
func (s shared) Hyphens() string { return strings.ReplaceAll(s.Dots(), ".", "-") }

// facts are what a recipe can name: a bool to ask for, a text to write.
func (s shared) facts() map[string]any {
	return map[string]any{
		"Address": s.Address.String(), "MAC": s.MAC.String(), "Dots": s.Dots(), "Dashes": s.Dashes(), "Hyphens": s.Hyphens(),
		"Group": s.Group.String(), "V6": s.V6(), "Stealth": s.Stealth,
	}
}

// sharedOf lists the shared addresses of services, each once.
func sharedOf(services []raftstore.Definition) []shared {
	var all []shared
	for _, d := range services {
		i := slices.IndexFunc(all, func(s shared) bool { return s.Address == d.Address.Addr() })
		if i >= 0 {
			all[i].Services += ", " + d.Name
			continue
		}
		mac := d.HardwareAddr()
		all = append(all, shared{
			Services: d.Name, Address: d.Address.Addr(), MAC: mac, Device: d.Interface,
			Stealth: mac[0]&1 == 0, Group: nft.GroupOf(mac),
		})
	}
	return all
}

// writeRecipe fills a template in for each shared address.
func writeRecipe(w io.Writer, about, text string, all []shared) error {
	t, err := parseRecipe(strings.TrimLeft(text, "\n"))
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "# %s\n", about)
	for _, s := range all {
		filled, err := t.fill(s.facts())
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\n# %s at %s (service %s)\n%s", s.Address, s.MAC, s.Services, filled)
	}
	return nil
}
