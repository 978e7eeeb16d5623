// The provider's and the consumer's side of PrivateLink by AWS's SDK for
// JavaScript: creating with a ClientToken, accepting with a partial failure.
//
// Its endpoints are claimed by nobody, so Postern leaves them alone: what happens
// to them is what is done here, by the platform's staff as it were.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import {
  AcceptVpcEndpointConnectionsCommand, CreateVpcEndpointCommand, DeleteVpcEndpointServiceConfigurationsCommand,
  DeleteVpcEndpointsCommand, DescribeSubnetsCommand, DescribeVpcEndpointConnectionsCommand, DescribeVpcEndpointsCommand,
  DescribeVpcEndpointServiceConfigurationsCommand, DescribeVpcEndpointServicePermissionsCommand, DescribeVpcsCommand,
  EC2Client, RejectVpcEndpointConnectionsCommand, paginateDescribeVpcEndpointConnections,
} from "@aws-sdk/client-ec2";

const sandbox = JSON.parse(readFileSync(process.env.SANDBOX, "utf8"));
const absent = "vpce-00000000000000000";

function client(account) {
  const { access_key_id, secret_access_key } = sandbox.aws.accounts[account];
  return new EC2Client({
    region: "us-east-1",
    endpoint: sandbox.aws.endpoint_url,
    credentials: { accessKeyId: access_key_id, secretAccessKey: secret_access_key },
  });
}

const platform = client("platform");
const customer = client("example-corp");

const step = (text) => console.log(`  ${text}`);

/** Waits until read() gives one of the wanted values. */
async function becomes(what, read, ...wanted) {
  let last;
  for (const end = Date.now() + 30_000; Date.now() < end; await pause(200)) {
    last = await read();
    if (wanted.includes(last)) return last;
  }
  assert.fail(`${what}: still ${last}, want ${wanted.join(" or ")}`);
}

async function connection(serviceId, endpointId) {
  const { VpcEndpointConnections } = await platform.send(new DescribeVpcEndpointConnectionsCommand({
    Filters: [{ Name: "service-id", Values: [serviceId] }, { Name: "vpc-endpoint-id", Values: [endpointId] }],
  }));
  return VpcEndpointConnections[0]?.VpcEndpointState;
}

/** The platform's service in the region, as its owner sees it. */
async function platformService() {
  const { ServiceConfigurations } = await platform.send(new DescribeVpcEndpointServiceConfigurationsCommand({
    Filters: [{ Name: "service-name", Values: [process.env.SERVICE] }],
  }));
  assert.equal(ServiceConfigurations.length, 1, "services of that name");
  return ServiceConfigurations[0];
}

/** How the customer creates endpoints to it: by token, in one subnet. */
async function consumerSide(service) {
  const { Vpcs: [vpc] } = await customer.send(new DescribeVpcsCommand({}));
  const { Subnets } = await customer.send(new DescribeSubnetsCommand({ Filters: [{ Name: "vpc-id", Values: [vpc.VpcId] }] }));
  // Compared by zone ID: the names differ between the two accounts.
  const zones = process.env.ZONES.split(",");
  const usable = Subnets.filter((s) => zones.includes(s.AvailabilityZoneId));
  assert.ok(usable.length >= 2, "two subnets in zones of the service");
  return (token, subnet = usable[0]) => customer.send(new CreateVpcEndpointCommand({
    VpcEndpointType: "Interface", ServiceName: service.ServiceName, VpcId: vpc.VpcId, SubnetIds: [subnet.SubnetId],
    PrivateDnsEnabled: false, ClientToken: token,
  })).then(({ VpcEndpoint }) => ({ ...VpcEndpoint, another: usable.find((s) => s !== subnet) }));
}

step("the platform's service: acceptance required, the customer's account allowed");
const service = await platformService();
assert.equal(service.AcceptanceRequired, true);
const { AllowedPrincipals } = await platform.send(new DescribeVpcEndpointServicePermissionsCommand({ ServiceId: service.ServiceId }));
assert.ok(AllowedPrincipals.some((p) => p.Principal === `arn:aws:iam::${sandbox.aws.accounts["example-corp"].id}:root`), JSON.stringify(AllowedPrincipals));

step("CreateVpcEndpoint twice with one ClientToken: one endpoint");
const create = await consumerSide(service);
const first = await create("sdk-js-1");
assert.equal(first.State, "pendingAcceptance");
assert.equal((await create("sdk-js-1")).VpcEndpointId, first.VpcEndpointId);
const second = await create("sdk-js-2");
assert.notEqual(second.VpcEndpointId, first.VpcEndpointId);

step("the same ClientToken with other parameters: IdempotentParameterMismatch");
await assert.rejects(create("sdk-js-1", first.another), { name: "IdempotentParameterMismatch" });

step("AcceptVpcEndpointConnections of one that is there and one that is not: HTTP 200, one unsuccessful");
const accepted = await platform.send(new AcceptVpcEndpointConnectionsCommand({
  ServiceId: service.ServiceId, VpcEndpointIds: [first.VpcEndpointId, absent],
}));
assert.equal(accepted.$metadata.httpStatusCode, 200);
assert.deepEqual(accepted.Unsuccessful.map((u) => u.ResourceId), [absent]);
assert.match(accepted.Unsuccessful[0].Error.Code, /NotFound$/);

step("accepting is asynchronous: pending, then available, in lower camel case, on both sides");
await becomes("the connection", () => connection(service.ServiceId, first.VpcEndpointId), "available");
const { VpcEndpoints: [available] } = await customer.send(new DescribeVpcEndpointsCommand({ VpcEndpointIds: [first.VpcEndpointId] }));
assert.equal(available.State, "available");
assert.ok(available.DnsEntries[0].DnsName.startsWith(`${first.VpcEndpointId}-`), `DNS names: ${JSON.stringify(available.DnsEntries)}`);
assert.equal(await connection(service.ServiceId, second.VpcEndpointId), "pendingAcceptance");

step("accepting what is accepted already: unsuccessful, and nothing changes");
const again = await platform.send(new AcceptVpcEndpointConnectionsCommand({ ServiceId: service.ServiceId, VpcEndpointIds: [first.VpcEndpointId] }));
assert.deepEqual(again.Unsuccessful.map((u) => u.ResourceId), [first.VpcEndpointId]);
assert.equal(await connection(service.ServiceId, first.VpcEndpointId), "available");

step("the paginator finds both");
const found = [];
for await (const page of paginateDescribeVpcEndpointConnections({ client: platform, pageSize: 5 }, { Filters: [{ Name: "service-id", Values: [service.ServiceId] }] })) {
  found.push(...page.VpcEndpointConnections.map((c) => c.VpcEndpointId));
}
assert.equal(found.filter((id) => id === first.VpcEndpointId || id === second.VpcEndpointId).length, 2, `found ${found}`);
assert.equal(new Set(found).size, found.length, "an ID on two pages");

step("a customer cannot accept on the platform's service");
await assert.rejects(
  customer.send(new AcceptVpcEndpointConnectionsCommand({ ServiceId: service.ServiceId, VpcEndpointIds: [second.VpcEndpointId] })),
  (e) => /NotFound$/.test(e.name),
);

step("RejectVpcEndpointConnections, and a service with connections cannot be deleted");
await platform.send(new RejectVpcEndpointConnectionsCommand({ ServiceId: service.ServiceId, VpcEndpointIds: [second.VpcEndpointId] }));
await becomes("the rejected connection", () => connection(service.ServiceId, second.VpcEndpointId), "rejected");
const refused = await platform.send(new DeleteVpcEndpointServiceConfigurationsCommand({ ServiceIds: [service.ServiceId] }));
assert.equal(refused.Unsuccessful[0]?.Error.Code, "ExistingVpcEndpointConnections");

step("DeleteVpcEndpoints of both and of one that is not there");
const deleted = await customer.send(new DeleteVpcEndpointsCommand({ VpcEndpointIds: [first.VpcEndpointId, second.VpcEndpointId, absent] }));
assert.deepEqual(deleted.Unsuccessful.map((u) => u.ResourceId), [absent]);
await becomes("the deleted connection", () => connection(service.ServiceId, first.VpcEndpointId), "deleted", undefined);
