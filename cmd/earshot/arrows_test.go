package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The arrows of the design: which of our packages may import which. Whatever
// lies below a package counts as the package.
//
//	cmd ─> coordinator ─> raftstore ─┐
//	            └───────> nft ───────┴─> hashmode
func arrows() map[string][]string {
	return map[string][]string{
		"cmd":         {"coordinator", "raftstore", "nft", "hashmode"}, // it joins the parts
		"coordinator": {"raftstore", "nft", "hashmode"},
		"raftstore":   {"hashmode"},
		"nft":         {"hashmode"},
		"hashmode":    {},
	}
}

// fences says who alone may import a foreign module.
func fences() map[string]string {
	return map[string]string{
		"github.com/hashicorp/":           "raftstore",
		"go.etcd.io/bbolt":                "raftstore",
		"github.com/google/nftables":      "nft",
		"github.com/mdlayher/":            "nft",
		"github.com/florianl/":            "nft",
		"github.com/miekg/dns":            "coordinator",
		"github.com/vishvananda/":         "nft",
		"github.com/spf13/":               "cmd",
		"github.com/mattn/go-isatty":      "cmd",
		"go.yaml.in/yaml/":                "cmd",
		"os/signal":                       "cmd",
		"github.com/rogpeppe/go-internal": "cmd",
	}
}

// imported is one import of one file.
type imported struct{ file, path string }

// sourceImports lists what the files of a package and below it import. Tests
// are left out: they may hold a package against anything.
func sourceImports(t *testing.T, root string) []imported {
	t.Helper()
	var all []imported
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			all = append(all, imported{file, path})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// crossing says what is wrong with an import, or nothing.
func crossing(from, path string) string {
	if own, ok := strings.CutPrefix(path, "earshot/"); ok {
		to, _, _ := strings.Cut(own, "/")
		if to != from && !slices.Contains(arrows()[from], to) {
			return from + " must not know " + to
		}
		return ""
	}
	for prefix, owner := range fences() {
		if strings.HasPrefix(path, prefix) && owner != from {
			return owner + " alone imports " + prefix
		}
	}
	if first, _, _ := strings.Cut(path, "/"); from == "hashmode" && strings.Contains(first, ".") {
		return "hashmode needs nothing but the standard library"
	}
	return ""
}

func TestArrows(t *testing.T) {
	for from := range arrows() {
		root := filepath.Join("..", "..", from)
		if _, err := os.Stat(root); err != nil {
			t.Fatal(err)
		}
		for _, i := range sourceImports(t, root) {
			if wrong := crossing(from, i.path); wrong != "" {
				t.Errorf("%s imports %s: %s", i.file, i.path, wrong)
			}
		}
	}
}

// The health checks know nothing of clusters, but how to start a program.
func TestHealthKnowsNobody(t *testing.T) {
	imports := sourceImports(t, filepath.Join("..", "..", "coordinator", "health"))
	if len(imports) == 0 {
		t.Fatal("no imports read")
	}
	for _, i := range imports {
		if strings.HasPrefix(i.path, "earshot/") && i.path != "earshot/coordinator/child" {
			t.Errorf("%s imports %s", i.file, i.path)
		}
	}
}

// The tests above can fail.
func TestArrowsRefuse(t *testing.T) {
	for _, tt := range []struct{ from, path string }{
		{"hashmode", "earshot/nft"},
		{"hashmode", "golang.org/x/text"},
		{"nft", "earshot/raftstore"},
		{"raftstore", "earshot/nft/nfttest"},
		{"coordinator", "earshot/cmd/earshot"},
		{"coordinator", "earshot/e2e/lab"},
		{"coordinator", "github.com/hashicorp/raft"},
		{"cmd", "github.com/vishvananda/netlink"},
		{"nft", "github.com/spf13/viper"},
	} {
		if crossing(tt.from, tt.path) == "" {
			t.Errorf("%s may import %s", tt.from, tt.path)
		}
	}
}
