package main

import (
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"earshot/raftstore"
)

// What is written of a template is what text/template writes.
func TestRecipesAreTemplates(t *testing.T) {
	texts := []string{
		"{{if or .V6 .Stealth}}either{{else}}neither{{end}}\n",
		"{{if not .V6}}old{{else if .Stealth}}new, hidden{{end -}}   \n{{.Dots}} {{.Group}}",
	}
	for _, vendor := range vendors() {
		_, text, err := recipe(vendor)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	for _, address := range []string{"192.168.56.20/24", "fd56::20/64"} {
		for _, stealth := range []bool{false, true} {
			s := sharedOf([]raftstore.Definition{definition("web", address, stealth)})[0]
			for _, text := range texts {
				var want strings.Builder
				if err := template.Must(template.New("").Parse(text)).Execute(&want, s); err != nil {
					t.Fatal(err)
				}
				r, err := parseRecipe(text)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := r.fill(s.facts()); err != nil || got != want.String() {
					t.Errorf("%s, stealth %v: %v\n%s\nwant\n%s", address, stealth, err, got, want.String())
				}
			}
		}
	}
}

// What this small part cannot do is refused, not left out.
func TestRecipesRefuse(t *testing.T) {
	s := sharedOf([]raftstore.Definition{definition("web", "192.168.56.20/24", false)})[0]
	for _, text := range []string{
		"{{.Mac}}", "{{.V6}}", "{{if .MAC}}x{{end}}", "{{if not .MAC}}x{{end}}", "{{range .MAC}}x{{end}}", "{{.MAC | not}}",
		"{{$x := .MAC}}", "{{.MAC.V6}}", "{{or .V6 .Stealth}}", `{{"text"}}`, "{{.MAC .V6}}", "{{if .V6}}", "{{and .V6}}",
	} {
		r, err := parseRecipe(text)
		if err == nil {
			_, err = r.fill(s.facts())
		}
		if err == nil {
			t.Errorf("%s: filled in", text)
		}
	}
}

// A program with text/template in it keeps every method of every type: see
// recipeText.
func TestNoTemplatesInTheProgram(t *testing.T) {
	for _, part := range []string{"cmd", "coordinator", "raftstore", "nft", "hashmode"} {
		for _, i := range sourceImports(t, filepath.Join("..", "..", part)) {
			if i.path == "text/template" || i.path == "html/template" {
				t.Errorf("%s imports %s, which costs each agent 4 MB", i.file, i.path)
			}
		}
	}
}
