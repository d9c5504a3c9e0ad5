package main

import "strings"

// problem is one thing that is wrong with a configuration.
type problem struct {
	Where string // file:line, or the environment variable
	Key   string // as in services.web.hash
	Text  string
	Hint  string
}

func (p problem) Error() string {
	if p.Key == "" {
		return p.Where + ": " + p.Text
	}
	return p.Where + ": " + p.Key + ": " + p.Text
}

// configError is everything that is wrong with a configuration.
type configError struct{ Problems []problem }

func (e *configError) Error() string {
	var lines []string
	for _, p := range e.Problems {
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each problem on its own, with its hint.
func (e *configError) Unwrap() []error {
	var errs []error
	for _, p := range e.Problems {
		errs = append(errs, withHint(p, p.Hint))
	}
	return errs
}
