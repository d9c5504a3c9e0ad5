package nft

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// A kernel without a feature is named with what would bring it, beside what
// the kernel does have, and the attempt leaves nothing behind. No kernel has
// an xtables target of this name.
func TestProbeNamesAMissingFeature(t *testing.T) {
	w := newWorld(t)
	before := w.traces()
	missing := chain{name: "c", rules: []rule{{clauses: []clause{{text: "EARSHOT-NONE", exprs: []expr.Any{&expr.Target{Name: "EARSHOT-NONE", Info: &xt.Unknown{}}}}}}}}
	wanted := append(features(), feature{name: "mind reading", needs: "Linux 99", try: tryRules(inet, nil, missing)})
	var findings []Finding
	p := w.plane()
	w.node.Do(func() { findings = p.probeFeatures(wanted) })
	bad := worst(findings)
	if len(bad) != 1 || len(findings) != len(wanted) {
		t.Fatalf("failures %+v of %d findings, want the last one alone", bad, len(findings))
	}
	var unsupported *UnsupportedError
	if !errors.As(bad[0].Err, &unsupported) || !errors.Is(bad[0].Err, errors.ErrUnsupported) {
		t.Fatalf("error %v is no UnsupportedError", bad[0].Err)
	}
	if text := bad[0].Err.Error(); !strings.Contains(text, "mind reading") || !strings.Contains(text, "Linux 99") {
		t.Errorf("error %q names neither the feature nor what brings it", text)
	}
	if w.traces() != before || w.list() != "" {
		t.Errorf("the probe left %s\n%s", w.traces(), w.list())
	}
}
