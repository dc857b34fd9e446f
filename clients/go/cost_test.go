package distlock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sort"
	"testing"
	"time"

	. "distlock"
)

// BenchmarkCost compares a scoped lock with the two requests that it is made of, sent bare over a connection that stays
// open, one after the other in turns. It prints medians; run it with -benchtime 1x.
func BenchmarkCost(b *testing.B) {
	const rounds = 3000
	var s server
	tell(b, "POST", "/servers", object{"options": []string{}}, &s)
	defer tell(b, "DELETE", "/servers/"+s.Name, nil, nil)
	client := NewDistributedLockClient(s.Direct)
	defer client.Close()
	transport := &http.Transport{}
	post := func(path string, body object) (answer struct{ RenewalToken string }) {
		data, _ := json.Marshal(body)
		message, _ := http.NewRequest("POST", s.Direct+path, bytes.NewReader(data))
		message.Header.Set("Content-Type", "application/json")
		response, err := transport.RoundTrip(message)
		if err != nil {
			b.Fatal(err)
		}
		data, err = io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || json.Unmarshal(data, &answer) != nil || response.StatusCode != 200 {
			b.Fatalf("%d %s", response.StatusCode, data)
		}
		return answer
	}
	var scoped, bare []float64
	for i := 0; i < rounds; i++ {
		began := time.Now()
		err := client.Do(context.Background(), "scoped", 30*time.Second, func(context.Context, *Lock) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		scoped = append(scoped, time.Since(began).Seconds()*1e6)
		began = time.Now()
		grant := post("/locks/bare/acquire", object{"clientId": "bare", "timeout": 30})
		post("/locks/bare/release", object{"renewalToken": grant.RenewalToken})
		bare = append(bare, time.Since(began).Seconds()*1e6)
	}
	median := func(all []float64) float64 {
		sort.Float64s(all)
		return all[len(all)/2]
	}
	fmt.Printf("scoped lock %.0f us, bare requests %.0f us, ratio %.2f\n", median(scoped), median(bare), median(scoped)/median(bare))
}
