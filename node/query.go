package node

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// errTooLarge means that an answer is larger than its question may cost.
var errTooLarge = errors.New("the answer is too large")

// Call asks one of CometBFT's RPC methods, such as /block, and decodes its result. No more than limit bytes are read.
func (c *Client) Call(ctx context.Context, method string, parameters url.Values, limit int64, result any) error {
	if c.rpc == nil {
		return ErrNoAddress
	}
	return c.rpc.get(ctx, method, parameters, limit, result)
}

// query asks the application: a query service's method by its path, with a protobuf message, which is answered by another.
// No more than limit bytes of it are read.
func (c *Client) query(ctx context.Context, path string, request []byte, limit int64) ([]byte, error) {
	switch {
	case c.rpc != nil:
		return c.rpc.abciQuery(ctx, path, request, limit)
	case c.grpc != nil:
		return c.grpc.unary(ctx, path, request, limit, true)
	}
	return nil, ErrNoAddress
}

// abciQuery is CometBFT's /abci_query.
func (e *endpoint) abciQuery(ctx context.Context, path string, request []byte, limit int64) ([]byte, error) {
	var answer struct {
		Response struct {
			Code  uint32 `json:"code"`
			Log   string `json:"log"`
			Value []byte `json:"value"`
		} `json:"response"`
	}
	parameters := url.Values{"path": {`"` + path + `"`}, "data": {"0x" + hex.EncodeToString(request)}}
	limit = int64(base64.StdEncoding.EncodedLen(int(limit))) + maxAnswer
	if err := e.get(ctx, "/abci_query", parameters, limit, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r := answer.Response; r.Code != 0 {
		return nil, fmt.Errorf("%s: code %d: %.200s", path, r.Code, r.Log)
	}
	return answer.Response.Value, nil
}

// get asks one of CometBFT's JSON-RPC methods and decodes its result.
func (e *endpoint) get(ctx context.Context, method string, parameters url.Values, limit int64, result any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base+method+"?"+parameters.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return err
	case int64(len(content)) > limit:
		return errTooLarge
	}
	return parseResult(content, result)
}

// parseResult decodes the result of a JSON-RPC answer.
func parseResult(content []byte, result any) error {
	var answer struct {
		Error  json.RawMessage `json:"error"`
		Result json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return err
	}
	switch {
	case len(answer.Error) > 0 && string(answer.Error) != "null":
		return fmt.Errorf("%.200s", answer.Error)
	case len(answer.Result) == 0 || string(answer.Result) == "null":
		return errors.New("the answer has no result")
	}
	return json.Unmarshal(answer.Result, result)
}

// unary is one gRPC call without a stream. An answer that is longer than limit is an error if it is wanted whole, else cut.
func (e *endpoint) unary(ctx context.Context, path string, request []byte, limit int64, whole bool) ([]byte, error) {
	name := path[strings.LastIndexByte(path, '/')+1:]
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request))), request...) // not compressed
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.base+path, bytes.NewReader(frame))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if status := resp.Header.Get("Grpc-Status"); status != "" && status != "0" {
		return nil, fmt.Errorf("%s: status %.20s: %.200s", name, status, resp.Header.Get("Grpc-Message"))
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if len(content) < 5 {
		if status := resp.Trailer.Get("Grpc-Status"); status != "" && status != "0" {
			err = fmt.Errorf("%s: status %.20s: %.200s", name, status, resp.Trailer.Get("Grpc-Message"))
		}
		return nil, errors.Join(fmt.Errorf("%s: the answer has no message", name), err)
	}
	if size := int64(binary.BigEndian.Uint32(content[1:5])); whole && size != int64(len(content)-5) {
		if size+5 > limit {
			return nil, fmt.Errorf("%s: %w", name, errTooLarge)
		}
		return nil, errors.Join(fmt.Errorf("%s: the answer is cut off", name), err)
	}
	return content[5:], nil
}
