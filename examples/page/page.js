/**
 * The script of the page. It uses the routes of the application with the session cookie, as any page of a host would.
 * Every text of an answer becomes the text of an element, and never HTML.
 */
const CALLS = 50;
const RETURN_TO = '/?connected';

/** Why the account was not linked: the reasons and the codes with which the application leads the browser back. */
const REFUSALS = {
  denied: 'you did not agree at the provider',
  expired: 'ten minutes are over since you began',
  unknown_attempt: 'this attempt is over already',
  other_user: 'another user began',
  issuer_mismatch: 'another server answered than the one that was asked',
  account_mismatch: 'you logged in at the provider with another account than the connected one',
  provider_error: "the provider's answer cannot be used",
  ERR_TOKENS_PROVIDER_UNAVAILABLE: 'the provider cannot be reached',
};

/** An answer other than the one that the page needs. Its message is for the user. */
class Refusal extends Error {}

/** The application knows the user no more. */
class SessionOver extends Error {}

const find = (selector, parent = document) => parent.querySelector(selector);
const main = find('main');
/** The cards by the names of their accounts. */
const cards = new Map();
let cardCount = 0;
let isBusy = false;

/** Sends a request, and returns its status and its JSON. Throws if the session is over, or if there is no answer. */
async function send(method, path, body) {
  const options = body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  const [response, text] = await fetch(path, { method, ...options })
    .then(async (answer) => [answer, await answer.text()])
    .catch(() => {
      throw new Refusal('The application does not answer. Start it again by npm start, and try again.');
    });
  if (response.status === 401) throw new SessionOver();
  return { status: response.status, json: text === '' ? null : parsed(text) };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return { detail: text };
  }
}

/** The same, for a request that must succeed. Returns only the JSON. */
async function ask(method, path, body) {
  const answer = await send(method, path, body);
  if (answer.status < 300) return answer.json;
  throw new Refusal(textOf(answer));
}

/** The application answers with problem details (RFC 9457), and NestJS with a message or a list of messages. */
function textOf({ status, json }) {
  const text = json?.detail ?? [json?.message ?? 'The application refused the request.'].flat().join(', ');
  return `${text} (${status})`;
}

/** Does the work of one button. Presses in the meantime have no effect. Whatever fails is told to the user. */
async function act(work) {
  if (isBusy) return;
  isBusy = true;
  main.setAttribute('aria-busy', 'true');
  tell('');
  try {
    await work();
  } catch (error) {
    if (error instanceof SessionOver) {
      showSignIn();
      complain('Your session is over. Sign in again.');
    } else {
      complain(error.message);
      if (!(error instanceof Refusal)) console.error(error);
    }
  } finally {
    isBusy = false;
    main.removeAttribute('aria-busy');
  }
}

function tell(text) {
  find('#status').textContent = text;
  find('#alert').textContent = '';
}

function complain(text) {
  find('#alert').textContent = text;
}

function showSignIn() {
  show({ '#sign-in': true, '#session': false, '#accounts': false });
  find('#cards').replaceChildren();
  cards.clear();
  find('#user-id').focus();
}

async function showAccounts(userId) {
  find('#user').textContent = userId;
  await load();
  show({ '#sign-in': false, '#session': true, '#accounts': true });
}

function show(visibility) {
  for (const [selector, isVisible] of Object.entries(visibility)) find(selector).hidden = !isVisible;
}

/** Reads the connections and their rows anew. The cards that stay keep the focus. */
async function load() {
  const [connections, rows] = await Promise.all([ask('GET', '/connections'), ask('GET', '/me/rows')]);
  for (const [account, card] of cards) {
    if (connections.some((connection) => connection.account === account)) continue;
    card.element.remove();
    cards.delete(account);
  }
  for (const connection of connections) {
    const { account } = connection;
    const card = cards.get(account) ?? newCard(account);
    const row = rows.find((each) => each.account === account && each.identity_provider === connection.idp);
    card.connection = connection;
    fill(find('.facts', card.element), factsOf(connection));
    fill(find('.row', card.element), row ?? {});
  }
  show({ '#first-account': connections.length === 0, '#second-account': connections.length > 0 });
  showTimes();
}

function factsOf({ idp, name, subject, scopes, state, refreshedAt, accessTokenExpiresAt }) {
  return {
    Provider: idp,
    'Account at the provider': name ?? subject ?? 'not known',
    Scopes: scopes?.join(', ') ?? 'not known',
    State: state === 'active' ? 'active' : 'connect it again',
    'Access token issued': timeOf(refreshedAt),
    'Access token expires': accessTokenExpiresAt ? timeOf(accessTokenExpiresAt) : 'never',
  };
}

function timeOf(text) {
  return new Date(text).toLocaleTimeString('en-GB');
}

function fill(list, facts) {
  list.replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [
      textElement('dt', name),
      textElement('dd', value === '' ? "''" : (value ?? 'null')),
    ]),
  );
}

function textElement(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

function newCard(account) {
  const element = find('#card').content.firstElementChild.cloneNode(true);
  const title = find('h3', element);
  title.textContent = account === '' ? 'Default account' : `Account “${account}”`;
  title.id = `card-${++cardCount}`;
  element.setAttribute('aria-labelledby', title.id);
  const card = { element, connection: null, missingScopes: [] };
  const onPress = (selector, work) => {
    find(selector, element).addEventListener('click', () => act(() => work(account, card)));
  };
  onPress('.call', callAtOnce);
  onPress('.email', askForEmail);
  onPress('.grant', () => connect({ account, scopes: card.missingScopes }));
  onPress('.disconnect', disconnect);
  find('#cards').append(element);
  cards.set(account, card);
  return card;
}

/** Calls the provider many times at once, and asks it how many refreshes that took. */
async function callAtOnce(account, { element }) {
  const path = `/me?${new URLSearchParams({ account })}`;
  const before = await ask('GET', '/provider/requests');
  const answers = await Promise.all(Array.from({ length: CALLS }, () => send('GET', path)));
  const after = await ask('GET', '/provider/requests');
  const refused = answers.find(({ status }) => status !== 200);
  if (refused) throw new Refusal(textOf(refused));
  await load();
  const refreshes = after.refreshGrants - before.refreshGrants;
  const why = refreshes === 0 ? ' The access token had not expired. Press again when it has.' : '';
  find('.result', element).textContent =
    `${answers.length} calls succeeded. The provider redeemed ${refreshes} refresh token${refreshes === 1 ? '' : 's'}.${why}`;
}

/** Needs a scope that the first link does not ask for. */
async function askForEmail(account, card) {
  const answer = await send('GET', `/me/email?${new URLSearchParams({ account })}`);
  const missing = answer.json?.missing_scopes;
  find('.lack', card.element).hidden = !missing;
  if (missing) {
    card.missingScopes = missing;
    find('pre', card.element).textContent = JSON.stringify(answer.json, null, 2);
    find('.grant', card.element).textContent = `Grant ${missing.join(', ')}`;
    const name = card.connection.subject ?? card.connection.name;
    find('.result', card.element).textContent = `The token lacks a scope. Grant it, and log in as ${name} again.`;
    return;
  }
  if (answer.status !== 200) throw new Refusal(textOf(answer));
  await load();
  find('.result', card.element).textContent = `The provider says: ${answer.json.email}`;
}

async function connect(options) {
  const { authorizationUrl } = await ask('POST', '/connections/demo', { ...options, returnTo: RETURN_TO });
  location.assign(authorizationUrl);
}

async function disconnect(account) {
  await ask('DELETE', `/connections/demo?${new URLSearchParams({ account })}`);
  await load();
  tell('The account is disconnected. Its tokens are deleted here, and the provider is asked to revoke them.');
  find('#accounts-title').focus();
}

function showTimes() {
  for (const { element, connection } of cards.values()) {
    const expiresAt = Date.parse(connection.accessTokenExpiresAt ?? '');
    const remaining = (expiresAt - Date.now()) / 1000;
    const lifetime = (expiresAt - Date.parse(connection.refreshedAt)) / 1000;
    find('progress', element).value = Math.min(1, Math.max(0, remaining / lifetime)) || 0;
    const text = Number.isNaN(remaining)
      ? 'The access token does not expire.'
      : remaining > 0
        ? `The access token expires in ${Math.ceil(remaining)} s.`
        : 'The access token has expired. The next call refreshes it.';
    const timer = find('[role=timer]', element);
    if (timer.textContent !== text) timer.textContent = text;
  }
}

/** Tells what became of a link from which the browser comes back. The URL has only names that the page knows. */
function tellOutcome(query) {
  const refusal = query.get('refused');
  if (refusal === 'signed_out') complain('Your session is over. Sign in again, and connect the account again.');
  else if (refusal !== null) {
    const reason = Object.hasOwn(REFUSALS, refusal) ? REFUSALS[refusal] : 'something failed that the log describes';
    complain(`The account was not linked, because ${reason}. Begin again.`);
  } else if (query.has('connected')) tell('The account is connected.');
}

find('#sign-in form').addEventListener('submit', (event) => {
  event.preventDefault();
  void act(async () => {
    const userId = find('#user-id').value;
    await ask('POST', '/session', { userId });
    await showAccounts(userId);
    find('#accounts-title').focus();
  });
});

find('#sign-out').addEventListener('click', () =>
  act(async () => {
    await ask('DELETE', '/session');
    showSignIn();
  }),
);

find('#connect').addEventListener('click', () => act(() => connect({})));

find('#second-account').addEventListener('submit', (event) => {
  event.preventDefault();
  void act(() => connect({ account: find('#account').value }));
});

setInterval(showTimes, 250);

await act(async () => {
  const query = new URLSearchParams(location.search);
  history.replaceState(null, '', '/');
  const { userId } = await ask('GET', '/session');
  if (userId === null) showSignIn();
  else await showAccounts(userId);
  tellOutcome(query);
});
