// Package doctor judges what the nodes of a cluster see of their network:
// whether a client's frame reaches every node, what keeps it from one that it
// does not reach, and which command mends that. It is pure: nodes gather a
// Report each, Judge turns them into findings.
package doctor

import "earshot/nft"

// Report is what one node heard and found.
type Report struct {
	Node string `json:"node"`
	// Heard is what test frames and others' frames tell, by service.
	Heard []nft.Heard `json:"heard"`
	// Findings are what is wrong with the node's own kernel and settings.
	Findings []Finding `json:"findings"`
	// Problems are what the node's agent says is wrong with it, as the status
	// has them.
	Problems []string `json:"problems,omitempty"`
	// Error is why there is no report of the node.
	Error string `json:"error,omitempty"`
}

// Finding is one thing that was looked at. It is the contract of `earshot
// check --json`: names are added, never changed.
type Finding struct {
	// Severity is "ok", "warn" or "fail".
	Severity nft.Severity `json:"severity"`
	// Node is the node that the finding is about, empty for the cluster's
	// network or, without an agent, for this machine.
	Node    string `json:"node,omitempty"`
	Service string `json:"service,omitempty"`
	// What was found, in words.
	What string `json:"what"`
	// Mend is the command that mends it or, where there is none, what to do.
	Mend string `json:"mend,omitempty"`
	// Note says where to run the command, and what else would do.
	Note string `json:"note,omitempty"`
}

// FromKernel puts a finding of package nft into words alone.
func FromKernel(f nft.Finding) Finding {
	found := Finding{Severity: f.Severity, Service: f.Service, What: f.Text(), Mend: f.Mend}
	if f.Severity == nft.OK {
		found.Mend = ""
	}
	return found
}

// Worst is the worst severity among findings.
func Worst(findings []Finding) nft.Severity {
	worst := nft.OK
	for _, f := range findings {
		if f.Severity == nft.Fail || f.Severity == nft.Warn && worst == nft.OK {
			worst = f.Severity
		}
	}
	return worst
}
