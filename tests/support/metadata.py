"""A cloud's metadata service at 169.254.169.254 that plays the questions and answers of a file."""
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
lines = [line for line in open(sys.argv[1]).read().splitlines() if not line.startswith("#")]
script = [(question.split(" ", 2), *answer.split(" ", 1)) for question, answer in zip(lines[::2], lines[1::2])]
class Handler(BaseHTTPRequestHandler):
    def answer(self):
        status, body = 404, ""
        for question, answered, text in script:
            header = question[2].split(": ") if len(question) > 2 else None
            if question[:2] == [self.command, self.path] and (not header or self.headers.get(header[0]) == header[1]):
                status, body = int(answered), text
                break
        self.send_response(status)
        if "computeMetadata" in self.path:
            self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    do_GET = do_PUT = answer
    def log_message(self, *_):
        pass
server = HTTPServer(("169.254.169.254", 80), Handler)
print("ready", flush=True)
server.serve_forever()
