import { createPrivateKey, generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto';

/** A certificate that signs itself, with its private key, both as PEM. */
export interface SelfSignedCertificate {
  readonly certificate: string;
  readonly privateKey: string;
}

const OIDS = {
  ecdsaWithSha256: '06082a8648ce3d040302',
  commonName: '0603550403',
  subjectAltName: '0603551d11',
  basicConstraints: '0603551d13',
};

/** Makes a certificate of an authority that is also the certificate of one host. It is valid for an hour. */
export function selfSignedCertificate(host: string): SelfSignedCertificate {
  const { publicKey, privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const name = sequence(element(0x31, sequence(hex(OIDS.commonName), text(0x0c, host))));
  const algorithm = sequence(hex(OIDS.ecdsaWithSha256));
  const extensions = sequence(
    sequence(hex(OIDS.basicConstraints), hex('0101ff'), element(0x04, sequence(hex('0101ff')))),
    sequence(hex(OIDS.subjectAltName), element(0x04, sequence(text(0x82, host)))),
  );
  const content = sequence(
    hex('a003020102'), // version 3
    element(0x02, Buffer.concat([Buffer.of(1), randomBytes(8)])), // serial number
    algorithm,
    name,
    sequence(time(Date.now() - 3_600_000), time(Date.now() + 3_600_000)),
    name,
    publicKey,
    element(0xa3, extensions),
  );
  const signature = sign('sha256', content, createPrivateKey(privateKey));
  const der = sequence(content, algorithm, element(0x03, Buffer.concat([Buffer.of(0), signature])));
  return { certificate: new X509Certificate(der).toString(), privateKey };
}

/** An element of the Distinguished Encoding Rules: tag, length, content. */
function element(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const header = length < 0x80 ? [tag, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(header), content]);
}

function sequence(...elements: Buffer[]): Buffer {
  return element(0x30, Buffer.concat(elements));
}

function text(tag: number, value: string): Buffer {
  return element(tag, Buffer.from(value));
}

/** A UTCTime: YYMMDDHHMMSSZ. */
function time(epochMs: number): Buffer {
  return text(0x17, `${new Date(epochMs).toISOString().replace(/\D/g, '').slice(2, 14)}Z`);
}

function hex(bytes: string): Buffer {
  return Buffer.from(bytes, 'hex');
}
