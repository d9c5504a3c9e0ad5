package main

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"earshot/coordinator"
	"earshot/hashmode"
)

// threeNodes is a healthy cluster of three nodes and two services.
func threeNodes() coordinator.Status {
	s := coordinator.Status{Cluster: coordinator.ClusterStatus{Leader: "n1", Epoch: 12, Quorum: true, Node: "n2", LeaseMS: 300}}
	web := coordinator.ServiceStatus{
		Name: "web", Address: "192.168.56.20", MAC: "01:00:5e:28:38:14", Hash: "sourceip",
		Buckets: 1024, Seed: 305419896, Ports: []string{"tcp/443", "tcp/80"},
	}
	dns := coordinator.ServiceStatus{
		Name: "dns", Address: "192.168.56.21", MAC: "01:00:5e:28:38:15", Hash: "sourceip-sourceport",
		Buckets: 64, Seed: 7, Ports: []string{"udp/53"},
	}
	for i, part := range []struct{ web, dns string }{{"0-340", "0-21"}, {"341-681", "22-42"}, {"682-1023", "43-63"}} {
		name := fmt.Sprintf("n%d", i+1)
		s.Nodes = append(s.Nodes, coordinator.NodeStatus{
			Name: name, Listen: fmt.Sprintf("192.168.56.1%d:7440", i+1), State: coordinator.StateIn,
			Alive: true, Weight: 1, LeaseMS: 240 - int64(i), Voter: true,
		})
		web.Nodes = append(web.Nodes, coordinator.ShareStatus{Name: name, Own: part.web, Flows: 17 * i})
		dns.Nodes = append(dns.Nodes, coordinator.ShareStatus{Name: name, Own: part.dns, Flows: 1})
	}
	s.Services = []coordinator.ServiceStatus{dns, web}
	return s
}

// nodeOut is the cluster just after `earshot out n3`.
func nodeOut() coordinator.Status {
	s := threeNodes()
	s.Nodes[2].State = coordinator.StateDraining
	web := &s.Services[1]
	web.Nodes[0] = coordinator.ShareStatus{Name: "n1", Own: "0-340,682-852", Inherit: "682-852", Flows: 3}
	web.Nodes[1] = coordinator.ShareStatus{Name: "n2", Own: "341-681,853-1023", Waiting: "1000-1023", Inherit: "853-1023", Flows: 4, Pinned: "341-350"}
	web.Nodes[2] = coordinator.ShareStatus{Name: "n3", Drain: "682-1023", Flows: 1}
	return s
}

// leaderLost is what a node shows that is cut off.
func leaderLost() coordinator.Status {
	s := threeNodes()
	s.Cluster.Leader, s.Cluster.Quorum = "", false
	s.Warnings = []string{"no leader can be reached from here: this is what n2 knows by itself"}
	for i := range s.Nodes {
		s.Nodes[i].LeaseMS, s.Nodes[i].Alive = 0, false
	}
	s.Nodes[1].LeaseMS, s.Nodes[1].Alive = 61, true
	return s
}

// nodeFailed is the cluster after a crash, before the map has moved, with
// more wrong beside it.
func nodeFailed() coordinator.Status {
	s := threeNodes()
	s.Nodes[2].State, s.Nodes[2].Alive, s.Nodes[2].LeaseMS = coordinator.StateFailed, false, 0
	s.Nodes[1].Restarting = true
	s.Nodes[0].Weight = 2
	s.Nodes[0].Problems = []string{"service web: buckets: 512 in the file, not 1024 as in the cluster: the cluster's are used until the service is defined anew"}
	s.Nodes[0].Version, s.Nodes[1].Version = "v0.1.0", "v0.2.0"
	s.Services[1].Nodes[2].Own = ""
	s.Services[1].Ownerless = "682-1023"
	// The agent repeats the nodes' problems among its warnings.
	s.Warnings = []string{"n1: " + s.Nodes[0].Problems[0], "service web: no node answers for buckets 682-1023"}
	return s
}

// nodeIll is a cluster in which the server of one node fails its check.
func nodeIll() coordinator.Status {
	s := nodeOut()
	s.Nodes[2].State = coordinator.StateIn
	why := `status is 404, not 200-299`
	s.Nodes[2].Problems = []string{"cannot serve web: " + why}
	s.Services[1].Nodes[2].Unfit = why
	s.Warnings = []string{"n3: " + s.Nodes[2].Problems[0]}
	return s
}

// nodesRefuse has no node that can serve web, which is to be refused then.
func nodesRefuse() coordinator.Status {
	s := nodeIll()
	s.Services[1].Refuses = true
	s.Warnings = append(s.Warnings, "service web: no node can serve it: new flows are refused")
	return s
}

// manyNodes is a large cluster with one node out and one failed.
func manyNodes() coordinator.Status {
	s := coordinator.Status{Cluster: coordinator.ClusterStatus{Leader: "node-03.example", Epoch: 99, Quorum: true, Node: "node-01.example", LeaseMS: 300}}
	web := coordinator.ServiceStatus{Name: "web", Address: "10.1.0.80", Hash: "sourceip", Buckets: 4096}
	for i := range 64 {
		n := coordinator.NodeStatus{
			Name: fmt.Sprintf("node-%02d.example", i+1), Listen: fmt.Sprintf("10.1.0.%d:7440", i+1),
			State: coordinator.StateIn, Alive: true, Weight: 1, LeaseMS: 200, Voter: i < 5,
		}
		first := hashmode.Bucket(i * 64)
		share := coordinator.ShareStatus{Name: n.Name, Own: hashmode.Range(first, first+63).String(), Flows: i}
		switch i {
		case 9:
			n.State = coordinator.StateDraining
			share.Own, share.Drain = "", share.Own
		case 10:
			n.State, n.Alive, n.LeaseMS, share.Own = coordinator.StateFailed, false, 0, ""
		case 11, 12, 13, 14:
			extra := hashmode.Range(hashmode.Bucket(9*64+(i-11)*16), hashmode.Bucket(9*64+(i-11)*16+15))
			share.Own = extra.Union(hashmode.Range(first, first+63)).String()
			share.Inherit = extra.String()
		}
		s.Nodes = append(s.Nodes, n)
		web.Nodes = append(web.Nodes, share)
	}
	s.Services = []coordinator.ServiceStatus{web}
	return s
}

// nodeHeld is a cluster with nodes that are given nothing, each for a reason.
func nodeHeld() coordinator.Status {
	s := threeNodes()
	until := "2026-11-21T15:04:05+01:00"
	s.Nodes[0].Weight, s.Nodes[1].Losses, s.Nodes[1].HeldUntil, s.Nodes[1].HeldMS = 0, 3, until, 12345
	dns, web := &s.Services[0], &s.Services[1]
	for _, v := range s.Services {
		v.Nodes[0] = coordinator.ShareStatus{Name: "n1", Why: "it is a last resort (weight 0), and others serve"}
		v.Nodes[1] = coordinator.ShareStatus{Name: "n2", HeldUntil: until, HeldMS: 12345, Why: "it is back, and failed 3 times lately"}
	}
	web.Nodes[1].Own, web.Nodes[1].Why = "0-9", ""
	dns.Nodes[2] = coordinator.ShareStatus{Name: "n3", Why: "it cannot serve: interface eth2 has no carrier"}
	return s
}

func TestStatusText(t *testing.T) {
	plain := statusView{}
	pretty := statusView{terminal: terminal{Interactive: true, Color: true, Unicode: true}}
	tests := []struct {
		name   string
		status coordinator.Status
		view   statusView
	}{
		{"three", threeNodes(), plain},
		{"three-pretty", threeNodes(), pretty},
		{"out", nodeOut(), plain},
		{"out-pretty", nodeOut(), pretty},
		{"ill", nodeIll(), plain},
		{"refused", nodesRefuse(), plain},
		{"leader-lost", leaderLost(), plain},
		{"failed", nodeFailed(), plain},
		{"held", nodeHeld(), plain},
		{"many", manyNodes(), plain},
		{"many-all", manyNodes(), statusView{All: true}},
		{"empty", coordinator.Status{Cluster: coordinator.ClusterStatus{Node: "n1"}}, plain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := renderStatus(tt.status, tt.view)
			golden(t, "status/"+tt.name+".txt", got)
			if tt.view.Color {
				return
			}
			for line := range strings.Lines(got) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
					t.Errorf("line has %d columns:\n%s", n, line)
				}
			}
		})
	}
}

// One screen has 24 lines.
func TestStatusTextFitsOneScreen(t *testing.T) {
	for name, s := range map[string]coordinator.Status{"three": threeNodes(), "out": nodeOut(), "many": manyNodes()} {
		if n := strings.Count(renderStatus(s, statusView{}), "\n"); n > 23 {
			t.Errorf("%s: %d lines", name, n)
		}
	}
}
