package e2e

import "testing"

// longStory leaves a story to `make stories`: what it tells takes long, or asks
// for a machine that has nothing else to do.
func longStory(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a long story: make stories")
	}
}
