package main

import (
	"errors"
	"fmt"
	"time"
)

// end stops the client, shows the summary and says whether all is well.
func (s *story) end() error {
	fresh, err := s.fresh.Stop()
	if err != nil {
		return err
	}
	kept, err := s.kept.Stop()
	if err != nil {
		return err
	}
	last := sample{at: time.Now(), fresh: fresh, kept: kept}
	counts := last.counts(s.acts)
	s.show.summary(s.acts, counts, s.found)
	s.show.say("")
	for _, line := range s.closing() {
		s.show.say(line)
	}
	return verdict(s.acts, counts)
}

// verdict is an error if an act that must be faultless was not.
func verdict(acts []act, counts []count) error {
	var errs []error
	for i, c := range counts {
		switch {
		case c.requests == 0:
			errs = append(errs, fmt.Errorf("%s: no request was made", acts[i].name))
		case acts[i].faultless && c.failed() > 0:
			errs = append(errs, fmt.Errorf("%s: %d requests failed; none should", acts[i].name, c.failed()))
		}
	}
	return errors.Join(errs...)
}

// closing explains the figures and says what to try next.
func (s *story) closing() []string {
	return []string{
		"Failed:  the client must ask again. Taking a node out and bringing it back must",
		"         fail nothing; a power loss breaks what the node had open.",
		"Waited:  answered after more than " + duration(prompt) + ". A SYN lost in the moment of a move",
		"         is sent again by the client's kernel, a second later. After a power",
		"         loss, the others must be sure that the node is silent (its lease).",
		fmt.Sprintf("All of it took %.0f s, in namespaces that are gone now.", time.Since(s.begun).Seconds()),
		"",
		"Try next:",
		"  make bench                            start times, memory, HAProxy beside it",
		"  bin/earshot --help                    every command",
		"  bin/earshot check --config FILE       what a machine of yours lacks",
		"  bin/earshot status --watch            on a real node: who answers what",
	}
}
