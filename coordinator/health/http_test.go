package health

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

// page is a server of a real HTTP library.
func page(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

// The seeds' check: a page that contains a word.
func TestHTTPFindsAWordInAPage(t *testing.T) {
	there := true
	s := page(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/alive.html" || !there {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintln(w, "<html>foobar3000</html>")
	})
	check := Spec{Kind: HTTP, Target: s.URL + "/alive.html", Expect: "foobar3000"}
	judges(t, check, "")
	check.Expect = "/foobar[0-9]{4}</"
	judges(t, check, "")
	check.Expect = "foobar4000"
	judges(t, check, `does not contain "foobar4000"`)
	check.Expect = "/^foobar/"
	judges(t, check, "does not match /^foobar/")
	there = false
	judges(t, check, "status is 404, not 200-299")
	check.Status, check.Expect = "404", ""
	judges(t, check, "")
}

func TestHTTPAsksAsItIsTold(t *testing.T) {
	var got *http.Request
	s := page(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Location", "/elsewhere")
		if r.URL.Path == "/" {
			w.WriteHeader(http.StatusFound)
		}
	})
	judges(t, Spec{Kind: HTTP, Target: s.URL + "/?a=b", Method: "HEAD", Host: "shop.example", Status: "301-302,307"}, "")
	if got.Method != "HEAD" || got.Host != "shop.example" || got.URL.RawQuery != "a=b" || !got.Close {
		t.Errorf("%s %s of host %s, close %v", got.Method, got.URL, got.Host, got.Close)
	}
	judges(t, Spec{Kind: HTTP, Target: s.URL + "/"}, "status is 302")
	judges(t, Spec{Kind: HTTP, Target: s.URL + "/", Redirects: true}, "")
	round := page(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) })
	judges(t, Spec{Kind: HTTP, Target: round.URL, Redirects: true}, "redirects")
}

func TestHTTPSLooksAtTheCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	judges(t, Spec{Kind: HTTPS, Target: s.URL, Expect: "fine"}, "certificate")
	judges(t, Spec{Kind: HTTPS, Target: s.URL, Expect: "fine", Unproved: true}, "")
	plain := strings.Replace(s.URL, "https:", "http:", 1)
	judges(t, Spec{Kind: HTTP, Target: plain}, "status is 400")
}

// Whatever a server does, the verdict is right, and comes in time.
func TestHTTPServersThatMisbehave(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
	for name, tt := range map[string]struct {
		spec Spec
		want string
	}{
		"answers":               {Spec{Target: listen(t, says("HTTP/1.0 200 OK\r\n\r\nfoobar3000"))}, ""},
		"refuses":               {Spec{Target: refusing(t)}, "connection refused"},
		"hangs":                 {short(Spec{Target: listen(t, hangs)}), "no complete answer in time"},
		"hangs in the header":   {short(Spec{Target: listen(t, stops("HTTP/1.1 200 OK\r\nServer:"))}), "no complete answer in time"},
		"hangs in the body":     {short(Spec{Target: listen(t, stops(head+"foobar3000"))}), "no complete answer in time"},
		"takes no connection":   {short(Spec{Target: deaf(t)}), "no complete answer in time"},
		"closes at once":        {Spec{Target: listen(t, heeds)}, "closed the connection"},
		"resets":                {Spec{Target: listen(t, resets)}, "connection reset"},
		"dies in the body":      {Spec{Target: listen(t, says(head+"foobar3000"))}, "closed the connection"},
		"garbage":               {Spec{Target: listen(t, says("\x00\x01\x02\x03\xff foobar3000\r\n\r\n"))}, "malformed HTTP"},
		"another protocol":      {Spec{Target: listen(t, says("220 mail.example ESMTP\r\n"))}, "malformed HTTP"},
		"an endless header":     {Spec{Target: listen(t, endless("HTTP/1.1 200 OK\r\n", "X: y\r\n"))}, "the header is longer than 64 KiB"},
		"an endless first line": {Spec{Target: listen(t, endless("HTTP/1.1 ", "2"))}, "the header is longer than 64 KiB"},
		"an endless body":       {Spec{Target: listen(t, endless("HTTP/1.1 200 OK\r\n\r\nfoobar3000", "x"))}, "longer than 1024 KiB"},
		"continues for ever":    {Spec{Target: listen(t, endless("", "HTTP/1.1 100 Continue\r\n\r\n"))}, "says to continue"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.spec.Kind, tt.spec.Target, tt.spec.Expect = HTTP, "http://"+tt.spec.Target+"/alive.html", "foobar3000"
			judges(t, tt.spec, tt.want)
		})
	}
}

// heeds takes one request and closes.
func heeds(conn net.Conn) { _, _ = conn.Read(make([]byte, 1024)) }

// A server that sends without end costs no more than the bound.
func TestHTTPMemoryIsBounded(t *testing.T) {
	spec := Spec{Kind: HTTP, Target: "http://" + listen(t, endless("HTTP/1.1 200 OK\r\n\r\n", "x")), Expect: "foobar3000"}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const times = 10
	for range times {
		judges(t, spec, "longer than")
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / times; each > 8*maxAnswer {
		t.Errorf("one look at an endless page takes %d KiB", each>>10)
	}
}
