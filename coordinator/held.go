package coordinator

import (
	"fmt"
	"math"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// tellHolds completes a status with what is held, until when, and why a node
// has no bucket. holds is by node, and by service or "" for the node itself;
// it is empty where no leader can be reached.
func (s *Status) tellHolds(now time.Time, st *raftstore.State, holds map[string]map[string]time.Time, queues map[string]float64) {
	until := func(node, what string) (text string, ms int64) {
		end, held := holds[node][what]
		if !held {
			return "", 0
		}
		left := max(end.Sub(now), 0).Round(time.Millisecond)
		return time.Now().Add(left).Round(time.Second).Format(time.RFC3339), left.Milliseconds()
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		n.Losses, n.Queue = st.Nodes[n.Name].Losses[""], math.Round(queues[n.Name]*100)/100
		n.HeldUntil, n.HeldMS = until(n.Name, "")
	}
	for i := range s.Services {
		v := &s.Services[i]
		if v.Balance = raftstore.BalanceEven; st.Services[v.Name].Balance != "" {
			v.Balance = st.Services[v.Name].Balance
		}
		for j := range v.Nodes {
			share := &v.Nodes[j]
			n := st.Nodes[share.Name]
			what := ""
			if _, unfit := n.Unfit[v.Name]; unfit {
				what = v.Name
			}
			share.HeldUntil, share.HeldMS = until(n.Name, what)
			if share.Own == "" {
				share.Why = whyNone(st, n, v.Name, share.HeldUntil != "")
			}
		}
	}
}

// whyNone says why a node is given no bucket of a service, in words; empty if
// nothing keeps it from having some.
func whyNone(st *raftstore.State, n raftstore.Node, service string, held bool) string {
	why, unfit := n.Unfit[service]
	switch {
	case n.Witness:
		return "a witness answers nothing"
	case n.Failed:
		return "it has failed"
	case n.Out:
		return "it is out"
	case unfit && held:
		return fmt.Sprintf("it can serve again, and was lost to this service %s lately (%s)", times(n.Losses[service]), why)
	case unfit:
		return "it cannot serve: " + why
	case !n.Follows():
		return "it is restarting"
	case n.Held && n.Losses[""] == 0:
		return "it has just come"
	case n.Held:
		return fmt.Sprintf("it is back, and failed %s lately", times(n.Losses[""]))
	case n.Weight == 0:
		return "it is a last resort (weight 0), and others serve"
	}
	return ""
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// preferProblems lists what a node would rather have and nobody can.
func preferProblems(st *raftstore.State, prefer map[string]string) []string {
	var all []string
	for _, name := range st.ServiceNames() {
		if prefer[name] == "" {
			continue
		}
		if _, err := hashmode.ParseSet(prefer[name], len(st.Services[name].Map)); err != nil {
			all = append(all, fmt.Sprintf("service %s: prefer: %v", name, err))
		}
	}
	return all
}
