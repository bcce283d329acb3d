// Whom a device believes: those roles whose keys the operator has certified, for what each of them says.

import { areEqual, toHex } from "./bytes.js";
import { asBytes, asCount, asList, asMap, asText, decode, decodeAnyForm, type Value } from "./canonical.js";
import { FedlogError } from "./errors.js";
import { isSigned } from "./keys.js";

const REMEMBERED_MAX = 64;

interface Certificate {
  role: string;
  publicKey: Uint8Array;
  deployment: Uint8Array;
  untilMs: number;
}

export class Trust {
  private readonly known = new Map<string, Certificate>();

  // `operator`: the operator's public key, 32 bytes. `deployment` undefined believes the roles of any.
  constructor(
    readonly operator: Uint8Array,
    readonly deployment?: Uint8Array,
  ) {}

  // What the role said in a record that was appended at `atMs`. Raises FedlogError for anybody else's word.
  async read(record: Uint8Array, role: string, atMs: number): Promise<Value> {
    return decode(await this.readPayload(record, role, atMs));
  }

  // A word of the operator, or of a server that the operator lets create tasks.
  async readCreation(record: Uint8Array, atMs: number): Promise<Value> {
    const isServed = asList(decode(record)).length === 3;
    const payload = isServed ? await this.readPayload(record, "steward", atMs) : await this.readSigned(record);
    return decodeAnyForm(payload);
  }

  private async readPayload(record: Uint8Array, role: string, atMs: number): Promise<Uint8Array> {
    const [payload, signature, certificate] = asList(decode(record), 3).map(asBytes) as [Uint8Array, Uint8Array, Uint8Array];
    const found = await this.readCertificate(certificate);
    if (found.role !== role) throw refuse(`a ${role} was expected, and a ${found.role} spoke`);
    if (atMs > found.untilMs) throw refuse(`the certificate of the ${role} is over`);
    if (this.deployment && !areEqual(this.deployment, found.deployment)) throw refuse("it is of another deployment");
    if (!(await isSigned(payload, signature, found.publicKey))) throw refuse(`the ${role}'s signature does not hold`);
    return payload;
  }

  private async readSigned(record: Uint8Array): Promise<Uint8Array> {
    const [payload, signature] = asList(decode(record), 2).map(asBytes) as [Uint8Array, Uint8Array];
    if (!(await isSigned(payload, signature, this.operator))) throw refuse("the operator has not signed this");
    return payload;
  }

  private async readCertificate(data: Uint8Array): Promise<Certificate> {
    const name = toHex(data);
    const known = this.known.get(name);
    if (known) return known;
    const said = asMap(decode(await this.readSigned(data)), "Certificate/1");
    const found = {
      role: asText(said["role"]),
      publicKey: asBytes(said["public_key"]),
      deployment: asBytes(said["deployment"]),
      untilMs: asCount(said["until_ms"]),
    };
    // Only what the operator signed is remembered, so that strangers cannot fill the memory.
    if (this.known.size >= REMEMBERED_MAX) this.known.clear();
    this.known.set(name, found);
    return found;
  }
}

function refuse(why: string): FedlogError {
  return new FedlogError("not_trusted", why);
}
