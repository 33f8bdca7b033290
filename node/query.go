package node

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Call asks one of CometBFT's RPC methods, such as /block, and decodes its result. No
// more than limit bytes are read.
func (c *Client) Call(ctx context.Context, method string, parameters url.Values, limit int64, result any) error {
	if c.rpc == nil {
		return ErrNoAddress
	}
	_, err := c.rpc.get(ctx, method, parameters, limit, result)
	return err
}

// query asks the application: a query service's method by its path, with a protobuf
// message, which is answered by another. No more than limit bytes of it are read.
func (c *Client) query(ctx context.Context, path string, request []byte, limit int64) (answer []byte, err error) {
	err = c.ask(ctx, func(ctx context.Context, e *endpoint) error {
		if e.kind == gRPC {
			answer, _, err = e.unary(ctx, path, request, limit, true)
		} else {
			answer, err = e.abciQuery(ctx, path, request, limit)
		}
		return err
	})
	return answer, err
}

// about says which question an error is about, unless it is about who answers.
func about(question string, err error) error {
	if err == nil || errors.Is(err, ErrForeign) {
		return err
	}
	return fmt.Errorf("%s: %w", question, err)
}

// refusal is a node's own no: asking elsewhere would not change it.
type refusal struct {
	kind string // error of the RPC, code of the application, or status of gRPC
	code int64
	text string
	bare bool // it came without a JSON-RPC envelope, as any server could have sent it
}

func (r *refusal) Error() string { return fmt.Sprintf("%s %d: %.200q", r.kind, r.code, r.text) }

// The codes by which a node says that it has no such query: of the SDK, and of gRPC.
const (
	codeUnknownRequest  = 6
	statusUnimplemented = 12
)

// isUnknownPath says whether the application has no such query.
func isUnknownPath(err error) bool {
	var r *refusal
	return errors.As(err, &r) &&
		(r.kind == "code" && r.code == codeUnknownRequest || r.kind == "status" && r.code == statusUnimplemented)
}

// abciQuery is CometBFT's /abci_query.
func (e *endpoint) abciQuery(ctx context.Context, path string, request []byte, limit int64) ([]byte, error) {
	var answer abciQueryAnswer
	parameters := url.Values{"path": {`"` + path + `"`}, "data": {"0x" + hex.EncodeToString(request)}}
	limit = int64(base64.StdEncoding.EncodedLen(int(limit))) + maxAnswer
	if _, err := e.get(ctx, "/abci_query", parameters, limit, &answer); err != nil {
		return nil, about(path, err)
	}
	value, err := answer.value()
	return value, about(path, err)
}

type abciQueryAnswer struct {
	Response struct {
		Code  *int64  `json:"code"`
		Log   string  `json:"log"`
		Value *[]byte `json:"value"`
		// Height is in every answer, also in an implementation that leaves out what is
		// empty.
		Height *height `json:"height"`
	} `json:"response"`
}

// value is the application's answer. No answer is not an empty one.
func (a abciQueryAnswer) value() ([]byte, error) {
	switch r := a.Response; {
	case r.Code != nil && *r.Code != 0:
		return nil, &refusal{kind: "code", code: *r.Code, text: r.Log}
	case r.Value != nil:
		return *r.Value, nil
	case r.Code == nil && r.Height == nil:
		return nil, errNoResult
	}
	return nil, nil
}

// errNoResult means that what was asked for does not stand in the answer.
var errNoResult = errors.New("the answer has no result")

// get asks one of CometBFT's RPC methods, decodes its result, and says who gave it.
func (e *endpoint) get(ctx context.Context, method string, parameters url.Values, limit int64, result any) (peer, error) {
	r, who, err := e.ask(ctx, question{path: method + "?" + parameters.Encode(), limit: limit})
	if err != nil {
		return peer{}, err
	}
	return who, r.result(result)
}

// result decodes what an RPC method has answered.
func (r reply) result(into any) error {
	if r.cut != nil {
		return r.cut
	}
	err := parseResult(r.content, into)
	// CometBFT sends its errors with the status 500; those without an envelope come with
	// 200.
	var no *refusal
	if r.status != http.StatusOK && !(errors.As(err, &no) && !no.bare) {
		return fmt.Errorf("HTTP status %d", r.status)
	}
	return err
}

// parseResult decodes the result of an RPC method: in a JSON-RPC envelope, or bare, as
// Tendermint v0.36 and Sei send it.
func parseResult(content []byte, result any) error {
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(content, &answer); err != nil {
		return fmt.Errorf("the answer is not a JSON object: %w", err)
	}
	if fault, ok := answer["error"]; ok && string(fault) != "null" {
		var no struct {
			Code    int64  `json:"code"`
			Message string `json:"message"`
			Data    any    `json:"data"`
		}
		if err := json.Unmarshal(fault, &no); err != nil {
			no.Message = string(fault)
		}
		return &refusal{kind: "error", code: no.Code, text: joinText(no.Message, no.Data)}
	}
	if no := bareError(answer); no != nil {
		return no
	}
	bare := content
	_, enveloped := answer["jsonrpc"]
	if wrapped, ok := answer["result"]; ok || enveloped {
		bare = wrapped
	}
	if len(bare) == 0 || len(answer) == 0 || string(bare) == "null" {
		return errNoResult
	}
	return json.Unmarshal(bare, result)
}

// bareError is an error without an envelope, or nil.
func bareError(answer map[string]json.RawMessage) error {
	no := &refusal{kind: "error", bare: true}
	var message string
	if json.Unmarshal(answer["code"], &no.code) != nil || json.Unmarshal(answer["message"], &message) != nil {
		return nil
	}
	var data any
	_ = json.Unmarshal(answer["data"], &data) // there may be none
	no.text = joinText(message, data)
	return no
}

// joinText is an error's message with its details.
func joinText(message string, data any) string {
	if data == nil || data == "" {
		return message
	}
	return fmt.Sprintf("%s: %v", message, data)
}

// height is a block height in JSON, which is text or a number.
type height int64

func (h *height) UnmarshalJSON(content []byte) error {
	if string(content) == "null" {
		return nil
	}
	n, err := strconv.ParseInt(strings.Trim(string(content), `"`), 10, 64)
	if err != nil || n < 0 || n == math.MaxInt64 { // a block comes after each height
		return fmt.Errorf("%.40q is not a height", content)
	}
	*h = height(n)
	return nil
}

// unary is one gRPC call without a stream, and who answered it. An answer that is longer
// than limit is an error if it is wanted whole, else cut.
func (e *endpoint) unary(ctx context.Context, path string, request []byte, limit int64, whole bool) ([]byte, peer, error) {
	r, who, err := e.ask(ctx, unaryQuestion(path, request, limit))
	if err != nil {
		return nil, peer{}, err
	}
	message, err := r.message(limit, whole)
	return message, who, about(path[strings.LastIndexByte(path, '/')+1:], err)
}

func unaryQuestion(path string, request []byte, limit int64) question {
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request))), request...) // not compressed
	return question{path: path, body: frame, limit: frameHead + limit}
}

// frameHead is how many bytes stand before a gRPC message: whether it is compressed, and
// its size.
const frameHead = 5

// message is the message of a gRPC answer.
func (r reply) message(limit int64, whole bool) ([]byte, error) {
	for _, from := range []http.Header{r.header, r.trailer} {
		if status := from.Get("Grpc-Status"); status != "" && status != "0" {
			code, err := strconv.ParseInt(status, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("%.20q is not a gRPC status", status)
			}
			return nil, &refusal{kind: "status", code: code, text: from.Get("Grpc-Message")}
		}
	}
	switch {
	case r.status != http.StatusOK:
		return nil, fmt.Errorf("HTTP status %d", r.status)
	case !strings.HasPrefix(r.header.Get("Content-Type"), "application/grpc"):
		return nil, errors.New("the answer is not gRPC")
	case len(r.content) < frameHead:
		return nil, cutOff(r.cut)
	case r.content[0] != 0:
		return nil, errors.New("the answer is compressed, which was not asked for")
	}
	size, message := int64(binary.BigEndian.Uint32(r.content[1:])), r.content[frameHead:]
	switch {
	case size <= int64(len(message)):
		return message[:size], nil
	case !whole:
		return message, nil
	case size > limit:
		return nil, errTooLarge
	}
	return nil, cutOff(r.cut)
}

func cutOff(cause error) error {
	if cause == nil {
		return errors.New("the answer is cut off")
	}
	return fmt.Errorf("the answer is cut off: %w", cause)
}
