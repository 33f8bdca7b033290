// Command feeder stands in for an oracle feeder beside a node: it asks the node's RPC for its height again and again, and notes each
// new one in a file together with the version that it is of, which is the name of the folder that it lies in.
//
//	feeder RPC FILE ADDRESS
//
// It answers 200 at ADDRESS once it has seen a height. Where the node does not answer at its start it ends with 1, as many do.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"
)

func main() {
	if err := follow(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "feeder:", err)
		os.Exit(1)
	}
}

func follow(rpc, path, address string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	version := filepath.Base(filepath.Dir(filepath.Dir(exe)))
	notes, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	last, err := height(rpc)
	if err != nil {
		return err
	}
	fmt.Fprintf(notes, "%s %d\n", version, last)
	var failed atomic.Value
	go func() {
		failed.Store(http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, version)
		})))
	}()
	for range time.Tick(50 * time.Millisecond) {
		if err, ok := failed.Load().(error); ok {
			return err
		}
		now, err := height(rpc)
		if err == nil && now > last {
			last = now
			fmt.Fprintf(notes, "%s %d\n", version, last)
		}
	}
	return nil
}

// height is what the node's application has committed.
func height(rpc string) (int64, error) {
	client := http.Client{Timeout: time.Second}
	response, err := client.Get(rpc + "/abci_info")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var answer struct {
		Result struct {
			Response struct {
				Height string `json:"last_block_height"`
			} `json:"response"`
		} `json:"result"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return 0, err
	}
	return strconv.ParseInt(answer.Result.Response.Height, 10, 64)
}
