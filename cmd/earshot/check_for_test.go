package main

import (
	"bytes"
	"net/netip"
	"os"
	"strings"
	"testing"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// definition is a service with the address, with a multicast MAC or a stealth
// one.
func definition(name, address string, stealth bool) raftstore.Definition {
	prefix := netip.MustParsePrefix(address)
	mac := nft.DefaultMAC(prefix.Addr())
	if stealth {
		mac = nft.StealthMAC(prefix.Addr())
	}
	return raftstore.Definition{Name: name, Address: prefix, Interface: "eth1", Hash: hashmode.SourceIP, Buckets: 16, MAC: mac.String()}
}

// Every recipe can be filled in for every kind of address, names it or says
// that there is nothing to do, and tells whether anybody has tried it.
func TestRecipes(t *testing.T) {
	if len(vendors()) < 10 {
		t.Fatalf("vendors: %v", vendors())
	}
	for _, vendor := range vendors() {
		about, text, err := recipe(vendor)
		if err != nil || !strings.HasSuffix(about, "tried)") {
			t.Errorf("%s: %q, %v", vendor, about, err)
		}
		for _, address := range []string{"192.168.56.20/24", "fd56::20/64"} {
			for _, stealth := range []bool{false, true} {
				d := definition("web", address, stealth)
				var out bytes.Buffer
				if err := writeRecipe(&out, about, text, sharedOf([]raftstore.Definition{d})); err != nil {
					t.Errorf("%s: %v", vendor, err)
				}
				got := out.String()
				if strings.Contains(got, "<no value>") || !strings.Contains(got, d.Address.Addr().String()+" at "+d.MAC) || strings.Count(got, "\n") < 4 || !strings.HasSuffix(got, "\n") {
					t.Errorf("%s for %s:\n%s", vendor, d.MAC, got)
				}
			}
		}
	}
}

// Services of one address share a recipe, and MACs are written as each vendor
// wants them.
func TestShared(t *testing.T) {
	all := sharedOf([]raftstore.Definition{definition("echo", "192.168.56.20/24", false), definition("web", "192.168.56.20/24", false), definition("six", "fd56::20/64", true)})
	if len(all) != 2 || all[0].Services != "echo, web" || all[0].Stealth || all[0].V6() || !all[1].Stealth || !all[1].V6() {
		t.Fatalf("%+v", all)
	}
	s := all[0]
	if s.Dots() != "0100.5e28.3814" || s.Dashes() != "01-00-5e-28-38-14" || s.Hyphens() != "0100-5e28-3814" || s.Group.String() != "239.40.56.20" {
		t.Errorf("%s, %s, %s, %s", s.Dots(), s.Dashes(), s.Hyphens(), s.Group)
	}
}

// docs/network.md shows what the command prints for the example configuration.
func TestNetworkPageShowsTheRecipes(t *testing.T) {
	page, err := os.ReadFile("../../docs/network.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, vendor := range vendors() {
		about, text, err := recipe(vendor)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := writeRecipe(&out, about, text, sharedOf([]raftstore.Definition{definition("web", "192.168.56.20/24", false)})); err != nil {
			t.Fatal(err)
		}
		_, commands, _ := strings.Cut(out.String(), "(service web)\n")
		if !strings.Contains(string(page), "```\n"+commands+"```\n") || !strings.Contains(string(page), "`"+vendor+"`") {
			t.Errorf("docs/network.md has not, for `%s`:\n```\n%s```", vendor, commands)
		}
	}
}
