// Parses commands with Microsoft's own parser: a JSON array on stdin, what is wrong with each on stdout.
// Its diagnostics pass over left-over words and unknown commands, so the tree is searched for those.
const path = require("path");
const library = path.join(process.argv[2], "node_modules/@kusto/language-service-next");
require(path.join(library, "bridge.min.js"));
require(path.join(library, "Kusto.Language.Bridge.min.js"));

function odd(node, found) {
  if (!node) return found;
  const kind = System.Enum.toString(Kusto.Language.Syntax.SyntaxKind, node.Kind);
  if (kind === "SkippedTokens" || kind === "UnknownCommand") found.push(`${kind}: ${node.toString()}`);
  for (let at = 0; at < (node.ChildCount || 0); at++) odd(node.GetChild(at), found);
  return found;
}

const commands = JSON.parse(require("fs").readFileSync(0, "utf8"));
const wrong = commands.map((text) => {
  const code = Kusto.Language.KustoCode.Parse(text);
  const found = odd(code.Syntax, []);
  const diagnostics = code.GetDiagnostics();
  for (let at = 0; at < diagnostics.Count; at++) {
    const diagnostic = diagnostics.getItem(at);
    if (diagnostic.Severity === "Error") found.push(diagnostic.Message);
  }
  if (code.Kind !== "Command") found.push(`it is a ${code.Kind}`);
  return found;
});
console.log(JSON.stringify(wrong));
