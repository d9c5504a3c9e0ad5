package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"earshot/nft"
	"earshot/raftstore"
)

// ApplyRequest asks what the services of the agent's config file would change
// in the cluster.
type ApplyRequest struct {
	// Prune: services that the file does not have are to be removed.
	Prune bool `json:"prune"`
}

// The kinds of changes.
const (
	ChangeNew     = "new"
	ChangeChanged = "changed"
	ChangeRemoved = "removed"
)

// ApplyPlan is what would be changed.
type ApplyPlan struct {
	Services []ServiceChange `json:"services"`
	// Left names services that the file does not have, and that stay.
	Left []string `json:"left"`
	// Unserved says, by service, why this node could not serve what is new.
	Unserved map[string]string `json:"unserved,omitempty"`
	// Refused says why the changes cannot be made; empty if they can.
	Refused string `json:"refused,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// Changes are what Apply takes.
	Changes []raftstore.Redefinition `json:"changes"`
}

// ServiceChange is the change of one service.
type ServiceChange struct {
	Name string `json:"name"`
	// Change is "new", "changed" or "removed".
	Change string `json:"change"`
	// Keys are those that differ; of a new or removed service, all.
	Keys []KeyChange `json:"keys"`
	// Moves: packets come to other nodes than before. Open flows stay where they
	// are, and new ones wait until all nodes have taken the change in.
	Moves bool `json:"moves,omitempty"`
}

// KeyChange is a key of a service with its values, before and after.
type KeyChange struct {
	Key  string `json:"key"`
	From string `json:"from"`
	To   string `json:"to"`
}

// PlanApply asks for the plan.
func (c *Client) PlanApply(ctx context.Context, r ApplyRequest) (ApplyPlan, error) {
	var p ApplyPlan
	err := c.do(ctx, http.MethodPost, "/v1/apply/plan", r, &p)
	return p, err
}

// Apply has the cluster carry out the changes of a plan.
func (c *Client) Apply(ctx context.Context, changes []raftstore.Redefinition) error {
	return c.do(ctx, http.MethodPost, "/v1/apply", raftstore.Redefine{Changes: changes}, nil)
}

// Reload has the agent read its config again.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	var r Reloaded
	err := c.do(ctx, http.MethodPost, "/v1/reload", struct{}{}, &r)
	return r, err
}

// errWitnessApplies: a witness' file need not have the services.
var errWitnessApplies = errors.New("a witness answers for no service")

// planApply reads the file again, so that what is shown is what is on disk.
func (c *Coordinator) planApply(_ context.Context, r ApplyRequest) (ApplyPlan, error) {
	if c.cfg.Witness {
		return ApplyPlan{}, errWitnessApplies
	}
	if _, err := c.Reload(); err != nil {
		return ApplyPlan{}, &RemoteError{Message: err.Error(), Hint: "nothing was changed; mend the file and run it again", Misuse: true}
	}
	st := c.store.State()
	p := planChanges(st, c.file.services(), r.Prune, newSeed)
	if len(p.Changes) == 0 {
		return p, nil
	}
	change := raftstore.Redefine{Changes: p.Changes}
	moving, err := st.Shaken(change)
	if err == nil {
		err = st.Readable(raftstore.Command{Redefine: &change})
	}
	if err != nil {
		p.Refused, p.Hint = err.Error(), hintFor(err)
	}
	for i, s := range p.Services {
		p.Services[i].Moves = slices.Contains(moving, s.Name)
	}
	p.Unserved = c.unserved(p)
	return p, nil
}

// unserved looks whether the new services' interfaces are there: a mistyped name
// would be that of all nodes whose files do not name another.
func (c *Coordinator) unserved(p ApplyPlan) map[string]string {
	why := map[string]string{}
	for _, change := range p.Changes {
		if change.Was != nil || change.Definition == nil {
			continue
		}
		if _, err := c.kernel.Carrier(change.Definition.Interface); errors.Is(err, nft.ErrNoInterface) {
			why[change.Service] = err.Error()
		}
	}
	return why
}

// planChanges compares the services of a file with the cluster's.
func planChanges(st *raftstore.State, file []raftstore.Definition, prune bool, seed func() uint32) ApplyPlan {
	p := ApplyPlan{Services: []ServiceChange{}, Left: []string{}, Changes: []raftstore.Redefinition{}}
	mine := map[string]bool{}
	for _, d := range file {
		mine[d.Name] = true
		have, known := st.Services[d.Name]
		switch {
		case !known:
			p.Services = append(p.Services, ServiceChange{Name: d.Name, Change: ChangeNew, Keys: changedKeys(nil, d.Fields())})
			p.Changes = append(p.Changes, raftstore.Redefinition{Service: d.Name, Definition: &d, Seed: seed()})
		case len(have.Differences(d)) > 0:
			was := have.Definition
			p.Services = append(p.Services, ServiceChange{Name: d.Name, Change: ChangeChanged, Keys: changedKeys(was.Fields(), d.Fields())})
			p.Changes = append(p.Changes, raftstore.Redefinition{Service: d.Name, Was: &was, Definition: &d})
		}
	}
	for _, name := range st.ServiceNames() {
		was := st.Services[name].Definition
		switch {
		case mine[name]:
		case !prune:
			p.Left = append(p.Left, name)
		default:
			p.Services = append(p.Services, ServiceChange{Name: name, Change: ChangeRemoved, Keys: changedKeys(was.Fields(), nil)})
			p.Changes = append(p.Changes, raftstore.Redefinition{Service: name, Was: &was})
		}
	}
	return p
}

// changedKeys pairs the fields of two definitions; one of them may be none.
func changedKeys(was, is []raftstore.Field) []KeyChange {
	keys := []KeyChange{}
	for i := range max(len(was), len(is)) {
		var k KeyChange
		if i < len(was) {
			k.Key, k.From = was[i].Key, fmt.Sprint(was[i].Value)
		}
		if i < len(is) {
			k.Key, k.To = is[i].Key, fmt.Sprint(is[i].Value)
		}
		if k.From != k.To {
			keys = append(keys, k)
		}
	}
	return keys
}

// apply commits the changes of a plan.
func (c *Coordinator) apply(ctx context.Context, r raftstore.Redefine) (struct{}, error) {
	err := c.executeWithin(ctx, raftstore.Command{Redefine: &r})
	if err != nil && applied(c.store.State(), r) {
		err = nil // at the first of several tries, whose answer was lost
	}
	if err == nil {
		c.log.Info("services redefined", "changes", r.String())
	}
	return struct{}{}, err
}

// applied reports whether the services are as the changes want them.
func applied(st *raftstore.State, r raftstore.Redefine) bool {
	for _, change := range r.Changes {
		have, known := st.Services[change.Service]
		if known != (change.Definition != nil) || known && len(have.Differences(*change.Definition)) > 0 {
			return false
		}
	}
	return true
}
