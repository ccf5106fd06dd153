/** A token endpoint in a process of its own. It redeems every refresh token and answers after a fixed time. */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const answerAfterMs = Number(process.argv[2]);
let redemptions = 0;

const server = createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    void delay(answerAfterMs).then(() => {
      redemptions++;
      response.setHeader('content-type', 'application/json');
      response.end(
        JSON.stringify({
          access_token: `ghu_${randomBytes(18).toString('hex')}`,
          refresh_token: `ghr_${randomBytes(36).toString('hex')}`,
          token_type: 'bearer',
          expires_in: 28_800,
          refresh_token_expires_in: 15_897_600,
        }),
      );
    });
  });
});
process.on('message', () => process.send?.({ redemptions }));
process.on('disconnect', () => process.exit(0));
server.listen(0, '127.0.0.1', () => {
  process.send?.({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/token` });
});
