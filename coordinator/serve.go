package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"earshot/hashmode"
	"earshot/raftstore"
)

// maxRequest bounds the body of a request.
const maxRequest = 1 << 20

// serve answers a request with what f makes of its body.
func serve[Request, Answer any](f func(context.Context, Request) (Answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request Request
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&request); err != nil {
				refuse(w, &RemoteError{Message: fmt.Sprintf("read request: %v", err), Misuse: true})
				return
			}
		}
		answer, err := f(r.Context(), request)
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // the asker is gone if this fails
	}
}

// refuse answers with the error. A peer's refusal is passed on as it is.
func refuse(w http.ResponseWriter, err error) {
	var refusal *RemoteError
	if !errors.As(err, &refusal) {
		refusal = &RemoteError{
			Message: err.Error(), Hint: hintFor(err), Misuse: errors.Is(err, hashmode.ErrSet),
			NoLeader: noLeader(err), Unknown: errors.Is(err, raftstore.ErrUnknown),
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusConflict)
	_ = json.NewEncoder(w).Encode(refusal)
}

// noLeader reports that the request may do better at another node, or later.
func noLeader(err error) bool {
	return errors.Is(err, ErrNotLeader) || errors.Is(err, ErrNoLeader) || errors.Is(err, raftstore.ErrNotLeader)
}

// hintFor is the way out of an error.
func hintFor(err error) string {
	switch {
	case errors.Is(err, raftstore.ErrLastNode):
		return "bring another node in first, or stop the agent: systemctl stop earshot"
	case errors.Is(err, raftstore.ErrUnknownNode), errors.Is(err, raftstore.ErrUnknownService):
		return "earshot status lists nodes and services"
	case errors.Is(err, raftstore.ErrWitness):
		return "to make it a node that answers: stop its agent, `earshot forget` it, empty its data_dir, take role: witness out of its config, start it"
	case errors.Is(err, raftstore.ErrAlive):
		return "stop its agent first; it can be forgotten once `earshot status` shows it as failed"
	case errors.Is(err, errMayLive):
		return "try again in a moment"
	case errors.Is(err, raftstore.ErrOldMember):
		return "`earshot status` shows the nodes' versions; upgrade the older ones first"
	case errors.Is(err, raftstore.ErrFixed):
		return "clients and routers know it: define a service under another name, and remove this one once nobody uses it"
	case errors.Is(err, raftstore.ErrRestarting):
		return "try again when `earshot status` does not show it as restarting any more"
	case errors.Is(err, errRemembers):
		return "try again in a moment; if it restarts, when `earshot status` does not show it as restarting any more"
	case errors.Is(err, raftstore.ErrRedefined):
		return "look at `earshot apply --dry-run`, and try again in a moment"
	case errors.Is(err, errWitnessApplies):
		return "run it on a node"
	case errors.Is(err, raftstore.ErrNotServing):
		return "bring the node in first: earshot in NODE"
	case errors.Is(err, ErrNoLeader):
		return "a majority of the voters must be reachable; earshot status shows whom this node sees"
	}
	return ""
}
