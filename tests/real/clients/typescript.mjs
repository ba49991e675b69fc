// The TypeScript SDKs as a client: `node typescript.mjs URL ERRAND sdk|client|client-auto`; see sdk2.py for the errand.
// One rule: it prints one line of JSON and nothing else.

const [url, errandText, which] = process.argv.slice(2);
const errand = JSON.parse(errandText);
const about = { name: "vmcp-test", version: "1" };

async function connected() {
  if (which === "sdk") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const client = new Client(about);
    const transport = new StreamableHTTPClientTransport(new URL(url));
    await client.connect(transport);
    return [client, transport.protocolVersion];
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const client = new Client(about, which === "client-auto" ? { versionNegotiation: { mode: "auto" } } : {});
  const transport = new StreamableHTTPClientTransport(new URL(url));
  await client.connect(transport);
  return [client, transport.protocolVersion ?? client.getNegotiatedProtocolVersion?.()];
}

async function each(entries, action) {
  const done = {};
  for (const [key, given] of entries) done[key] = await action(key, given);
  return done;
}

const [client, revision] = await connected();
const found = {
  revision,
  server: client.getServerVersion()?.name,
  instructions: client.getInstructions(),
  tools: (await client.listTools()).tools.map((tool) => tool.name),
  resources: (await client.listResources()).resources.map((resource) => resource.uri),
  templates: (await client.listResourceTemplates()).resourceTemplates.map((template) => template.uriTemplate),
  prompts: (await client.listPrompts()).prompts.map((prompt) => prompt.name),
  calls: await each(Object.entries(errand.calls), (name, given) => client.callTool({ name, arguments: given })),
  gets: await each(Object.entries(errand.prompts), (name, given) => client.getPrompt({ name, arguments: given })),
  reads: await each(errand.reads.map((uri) => [uri]), (uri) => client.readResource({ uri })),
};
console.log(JSON.stringify(found));
await client.close();
