package health

import "time"

// Rules say how many answers in a row change a verdict.
type Rules struct {
	// Fall is how many failures make a server ill, Rise how many successes
	// make an ill one well. Each is 1 or more.
	Fall, Rise int
	// Grace is how long after the first attempt failures do not count, until
	// the first success.
	Grace time.Duration
}

// State is what is known of a server.
type State int

// The states. A server is unknown until its first success, or until enough
// failures.
const (
	Unknown State = iota
	Well
	Ill
)

// String is the state in a word.
func (s State) String() string {
	switch s {
	case Well:
		return "well"
	case Ill:
		return "ill"
	}
	return "unknown"
}

// Verdict is the judgement of a server. The zero value is unknown.
type Verdict struct {
	State State
	// Reason is the failure that made the server ill. It stays the same until
	// the server is well: the newest one would change with each attempt.
	Reason string

	streak int // answers in a row that speak against State
}

// Next returns the verdict after one more answer, age after the first attempt.
// It is a pure function.
func (v Verdict) Next(answer error, age time.Duration, r Rules) Verdict {
	if answer == nil {
		if v.State == Ill && v.streak+1 < r.Rise {
			v.streak++
			return v
		}
		return Verdict{State: Well}
	}
	switch {
	case v.State == Ill:
		v.streak = 0
		return v
	case v.State == Unknown && age < r.Grace:
		return Verdict{}
	case v.streak+1 < r.Fall:
		v.streak++
		return v
	}
	return Verdict{State: Ill, Reason: shorten(answer.Error())}
}

// all is the verdict of checks that must all pass.
func all(verdicts []Verdict) Verdict {
	sum := Verdict{State: Well}
	for _, v := range verdicts {
		switch {
		case v.State == Ill:
			return Verdict{State: Ill, Reason: v.Reason}
		case v.State == Unknown:
			sum = Verdict{}
		}
	}
	return sum
}
