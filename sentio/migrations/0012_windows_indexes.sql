-- The index by account was as large as the primary key, and writing it cost nearly as much. Nearly
-- all windows are minutes of one strategy or symbol, and nobody pages through one account's: they are in the primary key only. Who
-- does look for some finds where in the minutes of the account as a whole, which has one wherever it has any.
drop index windows_by_account;
create index windows_by_account on windows (account, kind, start_at) where kind <> 'MINUTE';
create index windows_of_accounts on windows (account, kind, start_at) where strategy = '*' and symbol = '*';

-- Rows that live for a second: to compress them costs more than it spares.
alter table window_changes
    alter column account set storage external,
    alter column strategy set storage external,
    alter column symbol set storage external,
    alter column kind set storage external,
    alter column start_at set storage external;
