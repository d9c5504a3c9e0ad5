package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: a.does(func(*cobra.Command, []string) error {
			fmt.Fprintf(a.stdout, "earshot %v\n", readVersion())
			return nil
		}),
	}
}

// version is what the build recorded of itself.
type version struct {
	// module is the module's version; empty or (devel) for a build from a
	// working tree.
	module   string
	revision string
	time     string
	modified bool
	toolchain,
	platform string
}

// readVersion returns this program's version.
func readVersion() version {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version{}
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) version {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	return version{
		module:    info.Main.Version,
		revision:  settings["vcs.revision"],
		time:      settings["vcs.time"],
		modified:  settings["vcs.modified"] == "true",
		toolchain: info.GoVersion,
		platform:  settings["GOOS"] + "/" + settings["GOARCH"],
	}
}

// number is the version in one word: the module's, or the commit.
func (v version) number() string {
	switch {
	case v.module != "" && v.module != "(devel)":
		return v.module
	case v.revision == "":
		return "devel"
	case v.modified:
		return "devel-" + v.revision[:min(12, len(v.revision))] + "-dirty"
	}
	return "devel-" + v.revision[:min(12, len(v.revision))]
}

// String adds when the code was committed and what it was built with.
func (v version) String() string {
	s := v.number()
	if v.time != "" {
		s += " of " + v.time
	}
	return s + ", " + v.toolchain + ", " + v.platform
}
