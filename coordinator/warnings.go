package coordinator

import (
	"fmt"
	"slices"
	"strings"
)

// warnings are what somebody should act on.
func warnings(s Status) []string {
	var all []string
	for _, n := range s.Nodes {
		for _, p := range n.Problems {
			all = append(all, fmt.Sprintf("%s: %s", n.Name, p))
		}
	}
	if w := voteWarning(s.Nodes); w != "" {
		all = append(all, w)
	}
	for _, v := range s.Services {
		if v.Ownerless != "" {
			all = append(all, fmt.Sprintf("service %s: no node answers for buckets %s", v.Name, v.Ownerless))
		}
		if v.Refuses {
			all = append(all, fmt.Sprintf("service %s: no node can serve it: new flows are refused", v.Name))
		}
	}
	return all
}

// voteWarning says what one failure would do to the cluster, and what prevents
// that; empty if one failure does no harm that another node would prevent.
func voteWarning(nodes []NodeStatus) string {
	var failed []string
	voters, living := 0, 0
	for _, n := range nodes {
		switch {
		case !n.Voter:
		case n.State == StateFailed:
			voters++
			failed = append(failed, n.Name)
		default:
			voters++
			living++
		}
	}
	slices.Sort(failed)
	switch {
	case voters < 2:
		return ""
	case living < majority(voters):
		return fmt.Sprintf("%d of %d voters have failed (%s): nothing can be changed, and leases end; bring them back, or, if they are lost for good, see `earshot recover`",
			len(failed), voters, strings.Join(failed, ", "))
	case len(failed) > 0 && spare(voters, living) == 0:
		return fmt.Sprintf("%d of %d voters have failed (%s): one more failure stops the cluster; bring them back, or `earshot forget` one that never comes back",
			len(failed), voters, strings.Join(failed, ", "))
	}
	return SizeWarning(voters)
}

// SizeWarning says what is wrong with so many voters, all of them alive.
func SizeWarning(voters int) string {
	switch {
	case voters == 2:
		return "two voters: the failure of either stops the cluster; a third node prevents that, or a small machine with role: witness"
	case 2 < voters && voters < mostVoters && voters%2 == 0:
		return fmt.Sprintf("%d voters survive no more failures than %d; one more node, or a witness, makes it one more", voters, voters-1)
	}
	return ""
}
